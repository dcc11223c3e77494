//! Copies a store's data and restores it, as from an old backup.

use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::{Connection, PgConnection};
use tokio::task::block_in_place;

use super::clock::now;
use super::cluster::Cluster;
use super::place::Place;

/// A copy of a store's data.
pub struct Copy {
    data: PathBuf,
    copy: PathBuf,
}

impl Cluster {
    /// Copies the store's data while the server is briefly down. Returns `None` for a file, which
    /// cannot be replaced while it is open.
    pub async fn copy_store(&self) -> Option<Copy> {
        let data = data(&self.place).await?;
        let copy = Copy {
            copy: self.folder().join("copy"),
            data,
        };
        block_in_place(|| match &self.place {
            Place::Sqlite(_) => {}
            Place::Postgres(server) => {
                server.stop();
                copy_all(&copy.data, &copy.copy);
                server.run();
            }
            Place::Redis(server) => {
                let mut server = server.lock().unwrap();
                server.stop();
                copy_all(&copy.data, &copy.copy);
                server.restart();
            }
        });
        Some(copy)
    }

    /// Restores the data while the server is killed.
    pub fn put_back(&self, copy: &Copy) {
        let replace = || {
            std::fs::remove_dir_all(&copy.data).unwrap();
            copy_all(&copy.copy, &copy.data);
        };
        block_in_place(|| {
            self.note_reset(now());
            match &self.place {
                Place::Sqlite(_) => {}
                Place::Postgres(server) => {
                    server.kill();
                    replace();
                    server.run();
                }
                Place::Redis(server) => {
                    let mut server = server.lock().unwrap();
                    server.kill();
                    replace();
                    server.restart();
                }
            }
        });
    }
}

async fn data(place: &Place) -> Option<PathBuf> {
    match place {
        Place::Sqlite(_) => None,
        Place::Postgres(_) => {
            let mut tool = PgConnection::connect(&place.url(None)).await.unwrap();
            let data: String = sqlx::query_scalar("SHOW data_directory")
                .fetch_one(&mut tool)
                .await
                .unwrap();
            tool.close().await.unwrap();
            Some(data.into())
        }
        Place::Redis(server) => {
            let server = server.lock().unwrap();
            Some(server.directory().join("appendonlydir"))
        }
    }
}

/// Copies owners and permissions, too: PostgreSQL insists on them.
fn copy_all(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(
        status.unwrap().success(),
        "{} is not copied",
        from.display()
    );
}
