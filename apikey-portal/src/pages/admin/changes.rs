//! What the forms of admins have in common: confirmations, reasons, and answers.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use apikey_runtime::Error;
use apikey_runtime::manager::Propagation;
use askama::Template;

use crate::error::{Chain, PageError, html, is_unfinished};
use crate::fields::FormFields;
use crate::pages::frame::Frame;
use crate::pages::key_form::fault_of;
use crate::pages::text::counted;
use crate::visit::Visit;

/// Returns what a form that revokes lacks: the ticked box, and the reason.
pub(super) fn missing(fields: &FormFields) -> Vec<String> {
    let mut faults = Vec::new();
    if fields.text("reason").is_empty() {
        faults.push("Write the reason: the records and the audit log keep it.".to_owned());
    }
    if !fields.is_ticked("sure") {
        faults.push("Tick the box if you want this.".to_owned());
    }
    faults
}

/// Returns how a change reached the other nodes, in sentences.
pub(super) fn reach(propagation: &Propagation) -> Vec<String> {
    let answered = match propagation.acknowledged.len() {
        0 => None,
        1 => Some("one other node has said so".to_owned()),
        many => Some(format!("{many} other nodes have said so")),
    };
    if !propagation.waited_out.is_empty() {
        let nodes = propagation.waited_out.iter().map(ToString::to_string);
        let nodes: Vec<_> = nodes.collect();
        let mut told = vec![format!(
            "Confirmed on every node. These did not answer, and were waited out until they could not trust what they \
             remember: {}.",
            nodes.join(", ")
        )];
        told.extend(answered.map(|answered| format!("Besides this node, {answered}.")));
        return told;
    }
    vec![match (answered, propagation.outlasted) {
        (Some(answered), _) => format!("Confirmed on every node: this one, and {answered}."),
        (None, false) => "Confirmed on every node: this is the only one.".to_owned(),
        (None, true) => {
            "Confirmed on every node: the longest time was waited out for which a node may trust what it remembers."
                .to_owned()
        }
    }]
}

/// Returns the page for a change that failed, or what is wrong with the form. `what` is the change that may have been
/// made.
pub(super) fn failed(error: Error, what: &str) -> Result<String, PageError> {
    match error {
        error @ Error::InvalidArgument(_) => fault_of(error),
        Error::OwnerNotFound(_) => Err(PageError::NotFound),
        Error::Unsupported(why) => Err(PageError::Unsupported(why)),
        Error::Incomplete { done, source } => {
            tracing::error!(error = %Chain(&*source), "a change of many keys by a page did not finish");
            Err(PageError::Unfinished(format!(
                "{} {} changed, then the store failed. Send the form again: it continues there.",
                counted(done, "key"),
                if done == 1 { "was" } else { "were" }
            )))
        }
        error if is_unfinished(&error) => Err(PageError::Unfinished(format!(
            "The store did not answer. It is not known whether {what}. Send the form again when the store answers: \
             the same change twice does no harm."
        ))),
        other => Err(other.into()),
    }
}

#[derive(Template)]
#[template(path = "admin_done.html")]
struct DonePage<'a> {
    frame: Frame<'a>,
    heading: &'a str,
    told: &'a [String],
    owner: &'a str,
}

/// Answers that a change is made. `owner` is the one to go back to; empty if there is not one.
pub(super) fn done(visit: &Visit, heading: &str, told: &[String], owner: &str) -> HttpResponse {
    let page = DonePage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        heading,
        told,
        owner,
    };
    html(StatusCode::OK, &page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use apikey_runtime::store::NodeId;

    #[test]
    fn an_unfinished_change_says_how_many_keys_it_changed() {
        for (done, told) in [(0, "0 keys were"), (1, "1 key was"), (2, "2 keys were")] {
            let source = Box::new(Error::ShutDown);
            let Err(PageError::Unfinished(text)) = failed(Error::Incomplete { done, source }, "")
            else {
                panic!("{done}");
            };
            assert!(text.starts_with(&format!("{told} changed, ")), "{text}");
        }
    }

    #[test]
    fn the_nodes_that_were_waited_out_are_named() {
        let mut propagation = Propagation::default();
        assert!(reach(&propagation)[0].contains("the only one"));
        propagation.acknowledged = vec![NodeId::from_u128(1)];
        assert!(reach(&propagation)[0].contains("one other node"));
        propagation.waited_out = vec![NodeId::from_u128(2)];
        propagation.outlasted = true;
        let told = reach(&propagation).join(" ");
        assert!(told.contains(NodeId::from_u128(2).as_str()), "{told}");
        assert!(!told.contains(NodeId::from_u128(1).as_str()), "{told}");
        propagation = Propagation::default();
        propagation.outlasted = true;
        assert!(reach(&propagation)[0].contains("waited out"));
    }
}
