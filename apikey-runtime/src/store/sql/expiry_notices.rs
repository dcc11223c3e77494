//! Notices before the end of keys as rows.

use super::row::{KeyRow, id};
use crate::clock::Timestamp;
use crate::store::ExpiryNotice;

/// Reads the notices in `rows`, which hold all columns of `api_key_expiry_notices`, and returns them in the order in
/// which they are due. A row that was written by hand, and has no valid id, is left out.
pub(in crate::store) fn expiry_notices<R: KeyRow>(rows: &[R]) -> Vec<ExpiryNotice> {
    let mut notices: Vec<_> = rows.iter().filter_map(notice).collect();
    notices.sort_unstable_by_key(|notice| (notice.planned, notice.key));
    notices
}

fn notice(row: &impl KeyRow) -> Option<ExpiryNotice> {
    let time = |name| Some(Timestamp::from_millis(row.number(name).ok().flatten()?));
    let notice = ExpiryNotice::new(id(row)?, time("expires")?, time("since")?);
    let planned = match time("planned")?.as_millis() {
        i64::MIN => None,
        EARLIEST => Some(Timestamp::MIN),
        millis => Some(Timestamp::from_millis(millis)),
    };
    Some(notice.with_planned(planned))
}

/// The earliest time for which a notice is planned in a column. The one before it stands for none, so that an index has
/// notices that are not planned first.
const EARLIEST: i64 = i64::MIN + 1;

/// Returns a time as the column has it. The two earliest ones are one.
pub(in crate::store) fn notice_time(time: Timestamp) -> i64 {
    time.as_millis().max(EARLIEST)
}
