//! What `--confirmed` tells: which servers know of a change.

use apikey_runtime::manager::Propagation;

use crate::notice;
use crate::text::counted;

/// Says how the servers learned of a change that each of them follows now.
pub(crate) fn report(propagation: &Propagation) {
    let Propagation {
        acknowledged,
        waited_out,
        outlasted,
        ..
    } = propagation;
    for (how, nodes) in [
        ("acknowledged by", acknowledged),
        ("waited until the lease ended of", waited_out),
    ] {
        if !nodes.is_empty() {
            let names: Vec<_> = nodes.iter().map(ToString::to_string).collect();
            notice::note(&format!(
                "{how} {}: {}",
                counted(nodes.len() as u64, "server"),
                names.join(", ")
            ));
        }
    }
    notice::note(match outlasted {
        true => "confirmed: each lease from before the change has ended",
        false if acknowledged.is_empty() => "confirmed: no server uses the store now",
        false => "confirmed: each server follows the change",
    });
}
