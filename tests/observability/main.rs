//! Events, metrics, health, and the causes of errors.

mod causes;
mod events;
mod health;
mod metrics;
