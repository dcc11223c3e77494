//! Random requests at random routes, compared with an implementation of the rules that does not
//! share code with the guard.

use std::hash::{BuildHasher, RandomState};

use actix_web::web;
use apikey_runtime::{ApiKey, Policy, RequireApiKey, ScopeExpr};
use apikey_test_support::http::Server;
use apikey_test_support::locations::{Location, Message, Traced, Traces, key_locations};
use apikey_test_support::{forge, manager};

/// SplitMix64: a sequence that its seed repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Weak,
    Revoked,
    Unknown,
    Malformed,
    Empty,
}

const KINDS: [Kind; 7] = [
    Kind::Good,
    Kind::Good,
    Kind::Weak,
    Kind::Revoked,
    Kind::Unknown,
    Kind::Malformed,
    Kind::Empty,
];

#[derive(Debug, Clone)]
struct Route {
    locations: Vec<Location>,
    optional: bool,
    strip: bool,
}

fn in_authorization(location: Location) -> bool {
    matches!(
        location,
        Location::Bearer | Location::Scheme | Location::Basic
    )
}

/// Returns the result required for keys at these locations: the status and the reason, or the
/// handler's text.
fn expected(route: &Route, placed: &[(Location, Kind)]) -> (u16, &'static str) {
    let seen: Vec<_> = placed
        .iter()
        .filter(|(location, _)| route.locations.contains(location))
        .collect();
    let in_head: Vec<_> = seen
        .iter()
        .filter(|(location, _)| !location.is_in_body())
        .collect();
    let lines = placed
        .iter()
        .filter(|(location, _)| in_authorization(*location))
        .count();
    let second_line = lines > 1 && seen.iter().any(|(location, _)| in_authorization(*location));
    if second_line || in_head.len() > 1 {
        return (400, "multiple-keys");
    }
    // A malformed key is denied before the body is read.
    if let [(_, Kind::Malformed | Kind::Empty)] = in_head[..] {
        return (401, "invalid-key");
    }
    match seen[..] {
        [] if route.optional => (200, "nobody"),
        [] => (401, "missing-key"),
        [(_, Kind::Good)] => (200, "good"),
        [(_, Kind::Weak)] => (403, "insufficient-scope"),
        [(_, Kind::Revoked)] => (401, "revoked-key"),
        [_] => (401, "invalid-key"),
        _ => (400, "multiple-keys"),
    }
}

/// Returns up to four keys, at locations that one request can have.
fn throw(dice: &mut Dice) -> Vec<(Location, Kind)> {
    let shut = dice.of(&[Location::Json, Location::Form]);
    let mut placed = Vec::new();
    for _ in 0..dice.of(&[0, 1, 1, 1, 2, 2, 3, 4]) {
        let location = dice.of(&Location::ALL);
        if location != shut {
            placed.push((location, dice.of(&KINDS)));
        }
    }
    placed
}

async fn handler(traced: Traced, key: Option<ApiKey>) -> String {
    traced.handled();
    key.map_or_else(|| "nobody".to_owned(), |key| key.label().to_owned())
}

#[actix_web::test]
async fn l01_random_keys_at_random_doors_are_decided_as_the_rules_say() {
    let seed = RandomState::new().hash_one("locations");
    let mut dice = Dice(seed);
    let manager = manager().await;
    let scopes = ["orders:read"];
    let good = manager.create("good").scopes(scopes).await.unwrap();
    let weak = manager.create("weak").await.unwrap();
    let revoked = manager.create("revoked").scopes(scopes).await.unwrap();
    manager.revoke(revoked.id()).await.unwrap();
    let text = |kind: Kind| match kind {
        Kind::Good => good.expose_secret().to_owned(),
        Kind::Weak => weak.expose_secret().to_owned(),
        Kind::Revoked => revoked.expose_secret().to_owned(),
        Kind::Unknown => forge::unknown(),
        Kind::Malformed => "nonsense".to_owned(),
        Kind::Empty => String::new(),
    };
    let routes: Vec<Route> = (0..60)
        .map(|_| Route {
            locations: Location::ALL
                .into_iter()
                .filter(|_| dice.roll(2) == 0)
                .collect(),
            optional: dice.roll(3) == 0,
            strip: dice.roll(2) == 0,
        })
        .filter(|route| !route.locations.is_empty())
        .collect();
    let traces = Traces::default();
    let (configured, seen, served) = (manager.clone(), traces.clone(), routes.clone());
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.app_data(seen.clone());
        for (number, route) in served.iter().enumerate() {
            let policy = Policy::new()
                .scopes(ScopeExpr::One("orders:read"))
                .locations(key_locations(&route.locations));
            let policy = if route.optional {
                policy.optional()
            } else {
                policy
            };
            let guard = RequireApiKey::with(policy);
            let guard = if route.strip {
                guard.strip_credential()
            } else {
                guard
            };
            let scope = web::scope(&format!("/{number}")).route("", web::route().to(handler));
            app.service(scope.wrap(guard));
        }
    });
    let (mut handled, mut outcomes) = (0, std::collections::BTreeMap::new());
    for _ in 0..1_500 {
        let number = dice.roll(routes.len());
        let (route, placed) = (&routes[number], throw(&mut dice));
        let message = placed.iter().fold(
            Message::post(&format!("/{number}")),
            |message, (location, kind)| message.with(*location, &text(*kind)),
        );
        let answer = server.send(message.bytes()).await;
        let said = if answer.status == 200 {
            answer.text()
        } else {
            answer.problem()
        };
        let wanted = expected(route, &placed);
        assert_eq!(
            (answer.status, said.as_str()),
            wanted,
            "seed {seed}: {route:?} {placed:?}"
        );
        handled += usize::from(answer.status == 200);
        *outcomes.entry(wanted).or_insert(0) += 1;
        assert_eq!(traces.counts(), (handled, handled), "seed {seed}");
    }
    // Control: the dice have reached every rule.
    assert_eq!(outcomes.len(), 7, "seed {seed}: {outcomes:?}");
}
