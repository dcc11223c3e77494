//! Lists by label of a file in which a row is sorted by another text than its folded label, or texts are compared in
//! another encoding.

use std::sync::Arc;

use apikey_runtime::manager::ListKeys;
use apikey_runtime::{ApiKeyManager, SqliteStore};
use apikey_test_support::manager_on;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tempfile::TempDir;

struct Place {
    manager: ApiKeyManager,
    tool: SqliteConnection,
    _folder: TempDir,
}

impl Place {
    /// Starts a manager on a file in which texts have this encoding.
    async fn new(encoding: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.db");
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true);
        let mut tool = options.connect().await.unwrap();
        sqlx::raw_sql(encoding).execute(&mut tool).await.unwrap();
        let table = sqlx::raw_sql("CREATE TABLE another (n)");
        table.execute(&mut tool).await.unwrap();
        let manager = manager_on(Arc::new(SqliteStore::new(file))).await;
        Self {
            manager,
            tool,
            _folder: folder,
        }
    }

    async fn in_utf8() -> Self {
        Self::new("PRAGMA encoding = 'UTF-8'").await
    }

    /// Creates keys with these labels, which the manager folds.
    async fn create(&self, labels: &[&str]) {
        for label in labels {
            self.manager.create(*label).await.unwrap();
        }
    }

    /// Creates keys with these labels, which a statement by hand writes: a trigger sets what they are sorted by.
    async fn write(&mut self, labels: &[&str]) {
        for label in labels {
            let id = self.manager.create("another").await.unwrap().id();
            let update = sqlx::query("UPDATE api_keys SET label = ? WHERE id = ?").bind(*label);
            update
                .bind(id.as_str())
                .execute(&mut self.tool)
                .await
                .unwrap();
        }
    }
}

/// Returns the labels of all pages, in byte order.
async fn labels(list: ListKeys, size: u32) -> Vec<String> {
    let (mut labels, mut after) = (Vec::new(), None);
    for _ in 0..200 {
        let page = list.clone().page_size(size).after(after).await.unwrap();
        labels.extend(page.keys.into_iter().map(|key| key.label));
        after = page.next.map(|next| next.to_string().parse().unwrap());
        if after.is_none() {
            labels.sort();
            return labels;
        }
    }
    panic!("the list does not end");
}

/// Returns the labels that begin with `beginning` in small letters, in byte order.
fn beginning_with(beginning: &str, all: &[&str]) -> Vec<String> {
    let mut labels: Vec<_> = all.iter().map(|label| (*label).to_owned()).collect();
    labels.retain(|label| label.to_lowercase().starts_with(beginning));
    labels.sort();
    labels
}

#[actix_web::test]
async fn rows_that_a_statement_by_hand_wrote_are_listed_once() {
    let mut place = Place::in_utf8().await;
    let by_hand = ["x Übung", "x ähnlich", "xÉ1", "xÉ2", "SCHLÜSSEL", "Öl"];
    let by_call = ["x übung", "X ÜBUNG 2", "xé1", "Schlüssel", "öl 2", "y"];
    place.write(&by_hand).await;
    place.create(&by_call).await;
    let all = [by_hand, by_call].concat();
    let list = || place.manager.list();
    for size in [1, 2, 3, 50] {
        for beginning in ["x", "x ", "X", "s", "schl"] {
            let found = labels(list().label_prefix(beginning), size).await;
            let expected = beginning_with(&beginning.to_lowercase(), &all);
            assert_eq!(found, expected, "{beginning} in pages of {size}");
        }
        let folded: Vec<_> = all
            .iter()
            .filter(|label| by_call.contains(label) || is_folded(label))
            .copied()
            .collect();
        assert_eq!(folded.len(), all.len() - 5);
        for label in &all {
            let found = labels(list().label(*label), size).await;
            assert_eq!(found, found_by_label(label, &by_hand), "{size}");
            let found = labels(list().label_prefix(*label), size).await;
            let expected = beginning_with(&label.to_lowercase(), &folded);
            assert_eq!(found, expected, "{label} in pages of {size}");
        }
    }
}

/// Returns whether SQL folds the label as calls do.
fn is_folded(label: &str) -> bool {
    label.to_lowercase() == label.to_ascii_lowercase()
}

/// Returns what is found by this label if `by_hand` are those that SQL has folded.
fn found_by_label(label: &str, by_hand: &[&str]) -> Vec<String> {
    let is_found = is_folded(label) || !by_hand.contains(&label);
    is_found.then(|| label.to_owned()).into_iter().collect()
}

/// A call with filters reads more rows than its page has, and continues within them.
#[actix_web::test]
async fn a_page_of_one_continues_at_the_place_of_its_row() {
    let mut place = Place::in_utf8().await;
    place.write(&["xÉ1", "xÉ2"]).await;
    place.create(&["xé1", "x1"]).await;
    let active = apikey_runtime::KeyState::Active;
    let list = place.manager.list().label_prefix("x").state(active);
    assert_eq!(labels(list, 1).await, ["x1", "xÉ1", "xÉ2", "xé1"]);
}

#[actix_web::test]
async fn a_key_that_was_written_by_hand_fails_no_list() {
    let mut place = Place::in_utf8().await;
    place.create(&["X", "m", "Xa"]).await;
    let mine = "UPDATE api_keys SET label_key = 'mine' WHERE label = 'X'";
    let mine = sqlx::query(mine).execute(&mut place.tool).await.unwrap();
    assert_eq!(mine.rows_affected(), 1);
    // One that is not a text.
    let broken = "UPDATE api_keys SET label_key = CAST(x'6dff' AS TEXT) WHERE label = 'Xa'";
    sqlx::query(broken).execute(&mut place.tool).await.unwrap();
    for size in [1, 50] {
        assert_eq!(
            labels(place.manager.list().label_prefix("m"), size).await,
            ["m"]
        );
        assert_eq!(labels(place.manager.list().label("m"), size).await, ["m"]);
        assert_eq!(labels(place.manager.list(), size).await, ["X", "Xa", "m"]);
    }
}

#[actix_web::test]
async fn a_file_in_utf16_is_listed_by_label() {
    let by_call = [
        "zo",
        "zoo",
        "ZOË",
        "zo\u{d7ff}",
        "zo\u{e000}",
        "zo\u{fffd}",
        "zo\u{10ffff}",
        "zoĀ",
        "ÜA",
        "üĀ",
    ];
    let by_hand = ["ZOË 2", "zo\u{10ffff}Ü", "zoÜ", "Üa"];
    for encoding in [
        "PRAGMA encoding = 'UTF-16le'",
        "PRAGMA encoding = 'UTF-16be'",
    ] {
        let mut place = Place::new(encoding).await;
        place.create(&by_call).await;
        place.write(&by_hand).await;
        let all = [&by_call[..], &by_hand].concat();
        for size in [1, 2, 50] {
            let found = labels(place.manager.list().label_prefix("zo"), size).await;
            assert_eq!(found, beginning_with("zo", &all), "{encoding} {size}");
            for label in &all {
                let found = labels(place.manager.list().label(*label), size).await;
                assert_eq!(found, found_by_label(label, &by_hand), "{encoding} {size}");
            }
        }
    }
}
