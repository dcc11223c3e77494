//! The model as stateright sees it, and what must always hold.

use stateright::{Model, Property};

use crate::actions::Action;
use crate::bounds::Bounds;
use crate::state::{State, Violation};

pub const AFTER_CONFIRMATION: &str = "no accept that starts after a confirmation";
pub const AFTER_RETURN: &str = "no accept on the caller's node after the call returned";
pub const AFTER_LEASE: &str = "no accept later than a longest lease after a revocation";
pub const ON_OLDER_NODE: &str = "no accept on an older node after the call returned";
pub const UNDONE: &str = "a revocation is never undone";
pub const NEW_KEY_IS_DEAD: &str = "a new key is live";
pub const REFUSED: &str = "a live key is not refused";
pub const ACCEPTED_IN_THE_END: &str = "a live key is accepted after one poll of the node";
pub const CONFIRMED_IN_THE_END: &str = "a confirmation ends within a longest lease";

/// The protocol within bounds.
#[derive(Debug, Clone)]
pub struct Protocol(pub Bounds);

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(&self.0)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        state.steps(&self.0, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        next.take(action, &self.0).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(AFTER_CONFIRMATION, |_, state| {
                keeps(state, Violation::AcceptAfterConfirmation)
            }),
            Property::always(AFTER_RETURN, |_, state| {
                keeps(state, Violation::AcceptAfterReturn)
            }),
            Property::always(AFTER_LEASE, |_, state| {
                keeps(state, Violation::AcceptAfterLease)
            }),
            Property::always(ON_OLDER_NODE, |_, state| {
                keeps(state, Violation::AcceptOnOlderNode)
            }),
            Property::always(UNDONE, |_, state| keeps(state, Violation::RevocationUndone)),
            Property::always(NEW_KEY_IS_DEAD, |_, state| {
                keeps(state, Violation::NewKeyIsDead)
            }),
            Property::always(REFUSED, |_, state| keeps(state, Violation::LiveKeyRefused)),
            Property::always(ACCEPTED_IN_THE_END, |model, state: &State| {
                !model.0.live || state.accepts_live_keys(&model.0)
            }),
            Property::always(CONFIRMED_IN_THE_END, |model, state: &State| {
                !model.0.live || state.confirmation_ends(&model.0)
            }),
        ]
    }
}

fn keeps(state: &State, violation: Violation) -> bool {
    state.violation != Some(violation)
}
