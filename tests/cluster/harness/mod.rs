//! A cluster under faults: nodes as processes, proxies between them and the store, a schedule that
//! its seed repeats, and a checker of the history.

pub mod by_hand;
pub mod change;
pub mod checker;
pub mod clock;
pub mod cluster;
pub mod control;
pub mod copies;
pub mod faults;
pub mod faulty;
pub mod filling;
pub mod history;
pub mod ledger;
pub mod node;
pub mod owners;
pub mod place;
pub mod process;
pub mod round;
pub mod run;
pub mod schedules;
pub mod settings;
pub mod spending;
pub mod telling;
