//! Credentials: the locations that they are found in, their format, and that secrets stay secret.

mod bodies;
mod format;
mod header;
mod input;
mod locations;
mod random_locations;
mod secrets;
