//! `apikey scan`.

use crate::args::{Common, ScanArguments};
use crate::failure::Failure;
use crate::output;
use crate::rules::KeyShape;
use crate::settings;

pub(crate) fn run(common: &Common, arguments: &ScanArguments) -> Result<(), Failure> {
    let earlier_lengths: Vec<_> = arguments
        .earlier_lengths
        .iter()
        .map(|length| usize::from(*length))
        .collect();
    let shape = KeyShape::new(&settings::config(common)?, &earlier_lengths);
    output::text(&shape.rules(arguments.rules))
}
