//! Instructions of a warm check and of a guarded request, counted by valgrind: figures that repeat,
//! so that two trees can be compared.
//!
//! `cargo bench` leaves this one out, because it needs valgrind; `cargo bench -p apikey-runtime
//! --bench instructions` runs it. The processor that valgrind emulates computes SHA-256 without
//! instructions made for it, so a real check takes fewer than these.

mod support;

use std::env;
use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::rt;
use sha2::{Digest, Sha256};

use support::measure::Work;
use support::poll::at_once;
use support::routes::{Bench, Guard, Presented};
use support::table::Table;
use support::{Outcome, keys};

/// Runs of a subject in the shorter of its two processes; the longer one takes twice as many.
const RUNS: i64 = 20_000;

/// Requests made ahead of a call.
const AT_ONCE: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Sha256,
    Check,
    Request(Guard),
    /// The whole request.
    Denied(Presented),
    /// The whole request as a task, with a secret that is wrong for the first time, so that it waits for a poll
    /// with others.
    FirstRefusal,
}

const SUBJECTS: [(Subject, &str); 15] = [
    (Subject::Sha256, "raw SHA-256 of a key"),
    (Subject::Check, "a warm check, SHA-256 included"),
    (
        Subject::Request(Guard::Open),
        "an unguarded request, and making it",
    ),
    (
        Subject::Request(Guard::HandWrittenLean),
        "added: hand-written, lean",
    ),
    (
        Subject::Request(Guard::HandWrittenShared),
        "added: hand-written, boxed, identity shared",
    ),
    (Subject::Request(Guard::Plain), "added: #[api_key_required]"),
    (
        Subject::Request(Guard::WithKey),
        "added: ... with an `ApiKey` argument",
    ),
    (
        Subject::Request(Guard::WithScope),
        "added: ... with a scope",
    ),
    (
        Subject::Request(Guard::WithTemplate),
        "added: ... with a scope that the path fills, and an `ApiKey` argument",
    ),
    (
        Subject::Request(Guard::TwoGuards),
        "added: ... with a scope, an `ApiKey` argument, and middleware with another scope",
    ),
    (
        Subject::Request(Guard::WithRate),
        "added: ... with `rate_limit`",
    ),
    (
        Subject::Denied(Presented::Nothing),
        "a request that is denied without a key, and making it",
    ),
    (Subject::Denied(Presented::Typo), "... for a wrong checksum"),
    (
        Subject::Denied(Presented::RevokedKey),
        "... for a revoked key",
    ),
    (
        Subject::FirstRefusal,
        "... for a wrong secret, for the first time, one of 100 at once",
    ),
];

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    let arguments: Vec<String> = env::args().collect();
    // Valgrind starts this program with a subject and a number of runs.
    if let [_, _, subject, runs] = &arguments[..] {
        let (subject, _) = SUBJECTS[subject.parse::<usize>()?];
        return rt::System::new().block_on(run(subject, runs.parse()?));
    }
    if let Err(error) = Command::new("valgrind").arg("--version").output() {
        let message = format!("`valgrind` does not start ({error}); install its package");
        if env::var("CI").is_ok_and(|value| value == "true") {
            return Err(message.into());
        }
        println!("nothing measured: {message}");
        return Ok(());
    }
    compare()
}

/// Prints the instructions of each subject; those of a guard without those of the request itself.
fn compare() -> Outcome {
    let mut table = Table::new("instructions, on the processor that valgrind emulates");
    let mut open = 0;
    for (index, (subject, what)) in SUBJECTS.iter().enumerate() {
        // What both processes spend at start is not in the difference.
        let once = (counted(index, 2 * RUNS)? - counted(index, RUNS)?) / RUNS;
        let base = match subject {
            Subject::Request(Guard::Open) => {
                open = once;
                0
            }
            Subject::Request(_) => open,
            Subject::Sha256 | Subject::Check | Subject::Denied(_) | Subject::FirstRefusal => 0,
        };
        table.row(*what, (once - base).to_string(), "", "");
    }
    table.print();
    Ok(())
}

/// Returns the instructions of the main thread of a process that carries out `subject` `runs` times. The
/// manager's thread polls by the clock, so its instructions do not repeat.
fn counted(subject: usize, runs: i64) -> Outcome<i64> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("counts");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(env::current_exe()?)
        .args(["--bench", &subject.to_string(), &runs.to_string()])
        .output()?;
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stderr);
        return Err(format!("valgrind failed ({}): {printed}", output.status).into());
    }
    let counts = fs::read_to_string(file.with_file_name("counts-01"))?;
    let total = counts.lines().find_map(|line| {
        let total = line.strip_prefix("totals:")?;
        total.trim().parse().ok()
    });
    total.ok_or_else(|| "valgrind did not write the total of the main thread".into())
}

/// Carries out `subject` `runs` times.
async fn run(subject: Subject, runs: usize) -> Outcome {
    let bench = Bench::start().await?;
    match subject {
        Subject::Sha256 => {
            for _ in 0..runs {
                black_box(Sha256::digest(black_box(&bench.key)));
            }
        }
        Subject::Check => {
            for _ in 0..runs {
                black_box(at_once(bench.manager.verify(black_box(&bench.key)))?);
            }
        }
        Subject::Request(guard) => {
            let value = bench.authorization();
            repeat(
                runs,
                bench.requests(guard, Some(&value), StatusCode::OK).await?,
            );
        }
        Subject::Denied(presented) => {
            let value = bench.presenting(presented).await?;
            let status = presented.status();
            let requests = bench.requests(Guard::Plain, value.as_deref(), status);
            repeat(runs, requests.await?);
        }
        Subject::FirstRefusal => refuse_first(runs).await?,
    }
    Ok(())
}

/// Sends requests with different wrong secrets for one key.
async fn refuse_first(runs: usize) -> Outcome {
    let store = Arc::new(keys::EndlessStore::new(1));
    let id = keys::id(0);
    let bench = Bench::of(keys::manager(&store).await?, &keys::text(id)).await?;
    let burst = bench.bursts().await;
    for first in (0..runs).step_by(AT_ONCE) {
        let numbers = first..first + AT_ONCE;
        let wrong = numbers.map(|number| keys::with_secret(id, &format!("{number:064}")));
        let wrong: Vec<String> = wrong.collect();
        burst(&wrong, StatusCode::UNAUTHORIZED).await?;
    }
    Ok(())
}

fn repeat(runs: usize, mut requests: Work<'_>) {
    for _ in 0..runs / AT_ONCE {
        requests(AT_ONCE);
    }
}
