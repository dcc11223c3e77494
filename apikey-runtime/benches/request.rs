//! What a guard adds to a warm request, compared with a hand-written extractor, and the cost of a
//! denial. CPU time; see `counted` for allocations.

mod support;

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::rt;

use support::measure::{Work, in_turns, median};
use support::routes::{Bench, Guard, Presented};
use support::table::{Table, nanos, times};
use support::{Outcome, keys};

/// Number of concurrent requests in the cases in which a request may have to wait.
const AT_ONCE: usize = 256;

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    rt::System::new().block_on(async {
        accepted().await?;
        refused_at_once().await?;
        refused_late().await
    })
}

/// Compares each guard with no guard.
async fn accepted() -> Outcome {
    use Guard::{HandWrittenLean, HandWrittenShared, Open, Plain, WithKey, WithScope};
    let bench = Bench::start().await?;
    let value = bench.authorization();
    let mut subjects: Vec<Work<'_>> = Vec::new();
    for guard in [
        Open,
        HandWrittenLean,
        HandWrittenShared,
        Plain,
        WithKey,
        WithScope,
    ] {
        subjects.push(bench.requests(guard, Some(&value), StatusCode::OK).await?);
    }
    let rounds = in_turns(2_000, 100, &mut subjects);
    let added: Vec<f64> = (0..subjects.len())
        .map(|subject| rounds.added(subject, 0))
        .collect();
    let mut table = Table::new("allowed, added CPU time; ratio to what each hand-written one adds");
    table.row(
        "the unguarded request itself",
        nanos(rounds.median(0)),
        "",
        "",
    );
    table.row("hand-written, lean", nanos(added[1]), "1.00", "");
    table.row(
        "hand-written, boxed, identity shared",
        nanos(added[2]),
        "1.00",
        "",
    );
    let guarded = [
        "#[api_key_required]",
        "... with an `ApiKey` argument",
        "... with a scope",
    ];
    for (what, own) in guarded.iter().zip(&added[3..]) {
        let ratio = format!("{} / {}", times(own / added[1]), times(own / added[2]));
        table.row(*what, nanos(*own), ratio, "1.30 / 1.10");
    }
    table.print();
    Ok(())
}

/// Measures denials that need neither the store nor a wait.
async fn refused_at_once() -> Outcome {
    use Presented::{Nothing, RevokedKey, RightKey, Typo};
    let bench = Bench::start().await?;
    let mut subjects = Vec::new();
    for presented in [RightKey, Nothing, Typo, RevokedKey] {
        let value = bench.presenting(presented).await?;
        let status = presented.status();
        let requests = bench.requests(Guard::Plain, value.as_deref(), status);
        subjects.push(requests.await?);
    }
    let rounds = in_turns(1_000, 100, &mut subjects);
    let mut table = Table::new("denied without a wait, the whole request; ratio to an allowed one");
    table.row("allowed", nanos(rounds.median(0)), "1.00", "");
    let cases = [
        "without a key",
        "a typo: the checksum is wrong",
        "a revoked key",
    ];
    for (subject, what) in (1..).zip(cases) {
        table.row(
            what,
            nanos(rounds.median(subject)),
            times(rounds.ratio(subject, 0)),
            "1.30",
        );
    }
    table.print();
    Ok(())
}

/// Measures denials that wait for a poll of the store, which many requests share. Because they
/// wait, the figure is the CPU time of the whole process, including the manager's thread.
async fn refused_late() -> Outcome {
    let store = Arc::new(keys::EndlessStore::new(1));
    let manager = keys::manager(&store).await?;
    let bench = Bench::of(manager, &keys::text(keys::id(0))).await?;
    let mut next = 1..;
    let mut unknown = move || keys::text(keys::id(next.next().unwrap_or(1)));
    let mut secrets = 0..;
    let mut wrong_secret = move || {
        let secret = format!("{:064}", secrets.next().unwrap_or(0));
        keys::with_secret(keys::id(0), &secret)
    };
    let wrong = wrong_secret();
    let remembered = unknown();
    let burst = bench.bursts().await;
    let mut figures = vec![Vec::new(); 5];
    for round in 0..40 {
        let fresh: Vec<String> = (0..AT_ONCE).map(|_| unknown()).collect();
        let first: Vec<String> = (0..AT_ONCE).map(|_| wrong_secret()).collect();
        // A key remembers the last wrong secret alone, and these are shown for the first time in between.
        burst(
            &[wrong.clone(), remembered.clone()],
            StatusCode::UNAUTHORIZED,
        )
        .await?;
        let cases = [
            (vec![bench.key.clone(); AT_ONCE], StatusCode::OK),
            (vec![wrong.clone(); AT_ONCE], StatusCode::UNAUTHORIZED),
            (first, StatusCode::UNAUTHORIZED),
            (vec![remembered.clone(); AT_ONCE], StatusCode::UNAUTHORIZED),
            (fresh, StatusCode::UNAUTHORIZED),
        ];
        for ((keys, status), figures) in cases.into_iter().zip(&mut figures) {
            let nanos = burst(&keys, status).await? as f64;
            if round > 0 {
                figures.push(nanos / keys.len() as f64);
            }
        }
    }
    let figures: Vec<f64> = figures.into_iter().map(median).collect();
    let mut table =
        Table::new("256 concurrent requests, each a task; CPU time of all threads per request");
    let cases = [
        ("allowed", ""),
        ("the same wrong secret again", "1.50"),
        ("wrong secrets, each for the first time", "4.00"),
        ("an unknown id, cached", "1.50"),
        ("an unknown id, not seen before", "4.00"),
    ];
    for ((what, target), figure) in cases.iter().zip(&figures) {
        table.row(*what, nanos(*figure), times(figure / figures[0]), *target);
    }
    table.print();
    Ok(())
}
