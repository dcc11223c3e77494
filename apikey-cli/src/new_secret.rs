//! Shows a new secret, once.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use apikey_runtime::NewKey;

use crate::failure::Failure;
use crate::notice;
use crate::output::{Column, Format, Output, Row, Stdout};

/// Blanks that keep room in a file, for longer secrets than there are.
const ROOM: [u8; 512] = [b' '; 512];

/// Returns what to do about a secret that was lost. A further rotation ends the grace of the one before it.
fn remedy(key: &NewKey) -> String {
    match &key.record().previous {
        None => "rotate the key to get another secret, or revoke it".to_owned(),
        Some(previous) => format!(
            "make another key (`apikey keys create`) and leave this one to those who have its earlier secret until {}, or rotate \
             this one again, which denies that secret at once; or revoke it",
            previous.until
        ),
    }
}

/// Takes the secret of a key that is about to be made. It exists before the key does, so that a file that cannot be
/// written leaves no key without its secret behind.
#[derive(Debug)]
pub(crate) struct SecretSink {
    file: Option<ReservedFile>,
}

/// A file with room for a secret. It has the name that was asked for only when it has the secret, so that an interrupted command
/// leaves no file that looks finished.
#[derive(Debug)]
struct ReservedFile {
    path: PathBuf,
    /// The name until then, in the same folder.
    reserved: PathBuf,
    file: File,
}

impl SecretSink {
    /// Creates a file for `--secret-file`, which only its owner can read.
    ///
    /// # Errors
    ///
    /// Returns an error if the file exists or cannot be created, and without one if the format does not show a secret or stdout
    /// is closed.
    pub(crate) fn prepare(format: Format, path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return check_stdout(format).map(|()| Self { file: None });
        };
        Self::check(format, Some(path))?;
        let reserved = ReservedFile::create(path);
        let file = Some(reserved.map_err(|error| cannot_create(path, &error))?);
        Ok(Self { file })
    }

    /// Returns the error of [`prepare`](Self::prepare) as far as it is known without creating the file.
    pub(crate) fn check(format: Format, path: Option<&Path>) -> Result<(), Failure> {
        match path {
            None => check_stdout(format),
            Some(path) if path.symlink_metadata().is_ok() => {
                Err(cannot_create(path, &io::ErrorKind::AlreadyExists.into()))
            }
            Some(_) => Ok(()),
        }
    }

    /// Removes the file, which does not have a secret.
    pub(crate) fn abandon(self) {
        if let Some(reserved) = self.file {
            reserved.remove();
        }
    }

    /// Writes the key and its secret: into the file, or to stdout. There it is the member `secret`, or the last line alone.
    pub(crate) fn show(
        self,
        output: &Output,
        columns: &'static [Column],
        row: Row,
        key: &NewKey,
    ) -> Result<(), Failure> {
        let secret = key.expose_secret();
        if let Some(reserved) = self.file {
            let path = reserved.path.clone();
            reserved.finish(secret, key)?;
            let written = output.one(columns, row);
            return written.map_err(|failure| {
                failure.after(format!(
                    "the key `{}` was made or changed, its secret is in `{}`",
                    key.id(),
                    path.display()
                ))
            });
        }
        let written = match output.format() {
            Format::Json | Format::Jsonl => output.one(columns, row.with_secret(secret)),
            _ => output.one(columns, row).and_then(|()| output.line(secret)),
        };
        written.map_err(|failure| {
            failure
                .after(format!(
                    "the key `{}` was made or changed, its secret was not shown",
                    key.id()
                ))
                .remedy(remedy(key))
        })?;
        if Stdout::of_process() == Stdout::Discarded {
            notice::warn(&format!(
                "the secret of the key `{}` was not shown, because stdout is `/dev/null`: {}",
                key.id(),
                remedy(key)
            ));
        }
        Ok(())
    }
}

impl ReservedFile {
    fn create(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{:016x}.tmp", getrandom::u64()?));
        let reserved = path.with_file_name(hidden);
        let file = create_private(&reserved)?;
        let mut created = Self {
            path: path.to_owned(),
            reserved,
            file,
        };
        // A full disk is found before there is a secret.
        let file = &mut created.file;
        match file.write_all(&ROOM).and_then(|()| file.sync_all()) {
            Ok(()) => Ok(created),
            Err(error) => {
                created.remove();
                Err(error)
            }
        }
    }

    fn remove(self) {
        drop(self.file);
        // The error that led here is the one to report.
        let _ = std::fs::remove_file(self.reserved);
    }

    /// Writes the secret, and gives the file its name.
    fn finish(mut self, secret: &str, key: &NewKey) -> Result<(), Failure> {
        let made = format!("the key `{}` was made or changed", key.id());
        if let Err(error) = fill(&mut self.file, secret) {
            let path = self.path.display();
            let what = format!("{made}, and its secret could not be written to `{path}`");
            self.remove();
            return Err(Failure::because(what, &error).remedy(remedy(key)));
        }
        self.give_name(secret).map_err(|error| {
            let what = format!(
                "{made}, its secret is in `{}`, and not in `{}`",
                self.reserved.display(),
                self.path.display()
            );
            Failure::because(what, &error).remedy("move the file with the secret")
        })?;
        self.remove();
        Ok(())
    }

    /// Gives the file its name, which another file may have got meanwhile. That one is not overwritten.
    fn give_name(&self, secret: &str) -> io::Result<()> {
        match std::fs::hard_link(&self.reserved, &self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                // Not each file system has links.
                let mut file = create_private(&self.path)?;
                fill(&mut file, secret).inspect_err(|_error| {
                    // The secret is in the other file, which the error names.
                    let _ = std::fs::remove_file(&self.path);
                })
            }
            linked => linked,
        }
    }
}

/// Creates a file that only its owner can read.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Writes the secret in place of the blanks.
fn fill(file: &mut File, secret: &str) -> io::Result<()> {
    file.rewind()?;
    writeln!(file, "{secret}")?;
    file.set_len(secret.len() as u64 + 1)?;
    file.sync_all()
}

/// Rejects a format that does not show a secret, and a stdout that certainly loses it.
fn check_stdout(format: Format) -> Result<(), Failure> {
    match format {
        Format::Csv | Format::Id => Err(Failure::usage(
            "the formats `csv` and `id` do not show a secret",
        )
        .remedy("add `--secret-file PATH`, or write `--output json`")),
        _ if Stdout::of_process() == Stdout::Closed => Err(Failure::new(
            "stdout is closed or cannot be written, and the secret would be lost",
        )
        .remedy("add `--secret-file PATH`; no key was made or changed")),
        _ => Ok(()),
    }
}

fn cannot_create(path: &Path, error: &io::Error) -> Failure {
    let what = format!(
        "the file `{}` for the secret cannot be created",
        path.display()
    );
    Failure::because(what, error)
        .remedy("name a file that does not exist yet, in a folder that you may write to; no key was made or changed")
}
