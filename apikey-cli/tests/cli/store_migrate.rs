//! `store migrate`: stores of an older and of a newer release, with and without servers.

use std::path::Path;
use std::time::Duration;

use apikey_test_support::fleet;
use apikey_test_support::servers::redis::RedisServer;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use crate::program::{Place, Program};

/// The id of a server of an older release.
const SERVER: &str = "0000000000000000000001";

/// Changes a store by hand.
enum Tool {
    File(SqliteConnection),
    Postgres(PgConnection),
    Redis(&'static RedisServer, String),
}

impl Tool {
    async fn of(program: &Program) -> Self {
        match &program.place {
            Place::File => {
                let url = format!("{}?mode=rwc", program.address);
                Self::File(SqliteConnection::connect(&url).await.unwrap())
            }
            Place::Postgres(url) => Self::Postgres(PgConnection::connect(url).await.unwrap()),
            Place::Redis(_, namespace) => {
                Self::Redis(fleet::redis().unwrap(), format!("{{{namespace}}}"))
            }
        }
    }

    async fn sql(&mut self, sql: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::File(tool) => drop(sql.execute(tool).await.unwrap()),
            Self::Postgres(tool) => drop(sql.execute(tool).await.unwrap()),
            Self::Redis(..) => panic!("no SQL"),
        }
    }

    async fn version(&mut self) -> i64 {
        const VERSION: &str = "SELECT schema_version FROM api_key_meta";
        match self {
            Self::File(tool) => sqlx::query_scalar(VERSION).fetch_one(tool).await.unwrap(),
            Self::Postgres(tool) => sqlx::query_scalar(VERSION).fetch_one(tool).await.unwrap(),
            Self::Redis(server, names) => {
                let meta = format!("{names}:meta");
                let version = server.command(&["HGET", &meta, "schema"]);
                version.text().parse().unwrap()
            }
        }
    }

    async fn set_version(&mut self, version: i64) {
        match self {
            Self::Redis(server, names) => {
                let meta = format!("{names}:meta");
                server.command(&["HSET", &meta, "schema", &version.to_string()]);
            }
            _ => {
                let set = format!("UPDATE api_key_meta SET schema_version = {version}");
                self.sql(&set).await;
            }
        }
    }

    /// Makes the store as a release of this version has it.
    async fn make(&mut self, program: &Program, version: i64) {
        let kind = match self {
            Self::File(_) => "sqlite",
            Self::Postgres(_) => "postgres",
            Self::Redis(..) => {
                program.server().await.shutdown().await.unwrap();
                return self.set_version(version).await;
            }
        };
        let folder = format!("../apikey-runtime/src/store/{kind}/migrations");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let is_older = |file: &Path| {
            let name = file.file_name().unwrap().to_str().unwrap();
            name[..4].parse::<i64>().unwrap() <= version
        };
        if kind == "sqlite" {
            self.sql("PRAGMA journal_mode = WAL").await;
        }
        for file in files.iter().filter(|file| is_older(file)) {
            self.sql(&std::fs::read_to_string(file).unwrap()).await;
        }
        self.set_version(version).await;
    }

    /// Adds the server to the member list, as a release before 103 does.
    async fn join(&mut self) {
        match self {
            Self::Redis(server, names) => {
                let members = format!("{names}:nodes");
                let [heartbeat, acknowledged] =
                    ["heartbeat", "acknowledged"].map(|field| format!("{field}:{SERVER}"));
                server.command(&["HSET", &members, &heartbeat, "1", &acknowledged, "0"]);
            }
            _ => {
                let join = format!(
                    "INSERT INTO api_key_nodes (id, acknowledged, heartbeat, suspected) VALUES ('{SERVER}', 0, 1, FALSE)"
                );
                self.sql(&join).await;
            }
        }
    }

    /// Writes heartbeats until it is dropped.
    async fn live(mut self) {
        loop {
            match &self {
                Self::Redis(server, names) => {
                    let members = format!("{names}:nodes");
                    server.command(&["HINCRBY", &members, &format!("heartbeat:{SERVER}"), "1"]);
                }
                _ => {
                    let beat = "UPDATE api_key_nodes SET heartbeat = heartbeat + 1";
                    self.sql(beat).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Returns older versions of each store's schema: before and since nodes tell their protocol.
fn older(program: &Program) -> &'static [i64] {
    match program.place {
        Place::Redis(..) => &[102, 104],
        _ => &[102, 106],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_an_older_release_is_not_migrated_while_servers_use_it() {
    for number in [0, 1] {
        for program in Program::every().await {
            let version = older(&program)[number];
            let what = format!("{} {version}", program.address);
            let mut tool = Tool::of(&program).await;
            tool.make(&program, version).await;
            tool.join().await;
            let heartbeats = tokio::spawn(Tool::of(&program).await.live());

            let error = program.run(&["keys", "list"]).failed(1);
            assert!(error.contains("apikey store migrate"), "{what}: {error}");
            let error = program.run(&["store", "migrate"]).failed(2);
            assert!(error.contains("--yes"), "{what}: {error}");
            let refused = program.run(&["store", "migrate", "--yes"]);
            assert_eq!(tool.version().await, version, "{what}: {refused:?}");
            let error = refused.failed(4);
            let told = "1 server uses the store";
            assert!(error.contains(told) && error.contains("--force"), "{error}");
            let dry_run = program.run(&["store", "migrate", "--dry-run"]);
            assert!(dry_run.stderr.contains(told), "{what}: {dry_run:?}");
            assert_eq!((dry_run.code, tool.version().await), (0, version), "{what}");

            // What stands in the list without a heartbeat was killed.
            let force: &[&str] = match number {
                0 => &["--force"],
                _ => {
                    heartbeats.abort();
                    heartbeats.await.unwrap_err();
                    &[]
                }
            };
            let migrated = program.run(&[&["store", "migrate", "--yes"], force].concat());
            assert!(
                migrated.stderr.contains("was migrated"),
                "{what}: {migrated:?}"
            );
            migrated.ok();
            program.run(&["keys", "list"]).ok();
            let again = program.run(&["store", "migrate"]);
            assert!(again.stderr.contains("nothing to do"), "{what}: {again:?}");
        }
    }
}

#[tokio::test]
async fn a_store_of_a_newer_release_is_left_as_it_is() {
    for program in Program::every().await {
        program.server().await.shutdown().await.unwrap();
        let mut tool = Tool::of(&program).await;
        tool.set_version(9_999).await;
        for command in [
            &["keys", "list"][..],
            &["store", "check"],
            &["store", "migrate", "--dry-run"],
            &["store", "migrate", "--yes", "--force", "--create"],
        ] {
            let error = program.run(command).failed(1);
            assert!(
                error.contains("newer release") && error.contains("9999"),
                "{command:?}: {error}"
            );
        }
        assert_eq!(tool.version().await, 9_999, "{}", program.address);
    }
}
