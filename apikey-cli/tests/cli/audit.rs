//! `audit`.

use apikey_runtime::audit::AuditFormat;
use serde_json::Value;

use crate::program::Program;

#[tokio::test]
async fn the_audit_log_is_read_in_each_format_and_by_each_filter() {
    for program in Program::every().await {
        let server = program.server().await;
        let first = server
            .create("=1+1")
            .owner("acme")
            .actor("anna")
            .await
            .unwrap();
        let second = server
            .create("b")
            .owner("globex")
            .actor("ben")
            .await
            .unwrap();
        server
            .update(first.id())
            .label("c, \"d\"")
            .actor("ben")
            .await
            .unwrap();
        let audit = |options: &[&str]| program.run(&[&["audit"], options].concat()).ok();
        let count = |options: &[&str]| {
            audit(&[&["--output", "id"], options].concat())
                .lines()
                .count()
        };

        let table = audit(&[]);
        assert!(
            table.starts_with("AT ") && table.lines().count() == 4,
            "{table}"
        );
        assert!(table.lines().nth(1).unwrap().contains("updated"), "{table}");
        let newest = server.audit().await.unwrap().entries[0].at.to_string();
        let shown = format!("{} {}Z ", &newest[..10], &newest[11..19]);
        assert!(table.contains(&shown), "{shown} {table}");
        let (first, second) = (first.id().to_string(), second.id().to_string());
        assert_eq!(count(&[]), 3);
        assert_eq!(count(&["--key", &first]), 2);
        assert_eq!(count(&["--owner", "globex"]), 1);
        assert_eq!(count(&["--by", "ben"]), 2);
        assert_eq!(count(&["--by", "ben", "--key", &second]), 1);
        assert_eq!(count(&["--since", "1h"]), 3);
        assert_eq!(count(&["--until", "1h"]), 0);
        assert_eq!(
            count(&["--since", "1970-01-01", "--until", "1970-01-02T00:00:00Z"]),
            0
        );
        assert_eq!(count(&["--limit", "2"]), 2);

        // What the runtime exports is what the program writes.
        let entries = server.audit().await.unwrap().entries;
        assert_eq!(
            audit(&["--output", "jsonl"]),
            AuditFormat::JsonLines.rows(&entries)
        );
        let csv = AuditFormat::Csv.header() + &AuditFormat::Csv.rows(&entries);
        assert_eq!(audit(&["--output", "csv"]), csv);
        let guarded =
            AuditFormat::SpreadsheetCsv.header() + &AuditFormat::SpreadsheetCsv.rows(&entries);
        assert_eq!(audit(&["--output", "csv", "--spreadsheet"]), guarded);
        let json: Value = serde_json::from_str(&audit(&["--output", "json"])).unwrap();
        assert_eq!(json, serde_json::to_value(&entries).unwrap());

        program.run(&["audit", "--since", "soon"]).failed(2);
        program
            .run(&["audit", "--since", "1h", "--until", "2h"])
            .failed(2);
    }
}

#[tokio::test]
async fn more_entries_than_a_page_holds_are_read_to_the_end() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").await.unwrap();
    for number in 0..600 {
        server
            .update(key.id())
            .label(format!("ci {number}"))
            .await
            .unwrap();
    }
    let lines = program.run(&["audit", "--output", "jsonl"]).ok();
    let positions: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].clone())
        .collect();
    assert_eq!(positions.len(), 601);
    let mut different = positions.clone();
    different.dedup();
    assert_eq!(different, positions);
    let table = program.run(&["audit"]);
    assert!(table.stderr.contains("the newest 100 entries"), "{table:?}");
    assert_eq!(table.ok().lines().count(), 101);
}
