//! Reads of many records in memory.

use std::ops::Bound;

use async_trait::async_trait;

use super::{MemoryStore, State};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::paging::page_size;
use crate::store::{BatchReads, FindResult, ListCursor, ListQuery, ListRange, RecordPage};

#[async_trait]
impl BatchReads for MemoryStore {
    async fn find_many(&self, ids: &[KeyId]) -> Result<Vec<FindResult>, StoreError> {
        let state = self.state();
        Ok(ids.iter().map(|id| Ok(state.find(id))).collect())
    }
}

impl State {
    /// Returns the records that `query` selects.
    pub(super) fn page(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        let size = page_size(query);
        let after = query.after.as_ref();
        if after.is_some_and(|after| !query.range.fits(after)) {
            return Err(StoreError::InvalidArgument(
                "the cursor is of a list in another order; start again without a cursor".to_owned(),
            ));
        }
        // One more, which tells whether others follow.
        let mut ids: Vec<KeyId> = match &query.range {
            ListRange::Id(beginning) => self.ids_from(beginning, after, size + 1),
            range => self.index.ids(range, after).take(size + 1).collect(),
        };
        let more = ids.len() > size;
        ids.truncate(size);
        let found = ids.iter().filter_map(|id| self.records.get(id));
        let records: Vec<_> = found
            .map(|record| self.owners.complete(record.clone()))
            .collect();
        let last = records.last().filter(|_| more);
        let next = last.map(|last| query.range.cursor_of(last));
        Ok(RecordPage::new(records, Vec::new(), next))
    }

    /// Returns up to `count` ids that begin with `beginning`, in their order.
    fn ids_from(&self, beginning: &str, after: Option<&ListCursor>, count: usize) -> Vec<KeyId> {
        // Without a first id, the text is one with which no id begins.
        let Ok(first) = format!("{beginning:0<22}").parse::<KeyId>() else {
            return Vec::new();
        };
        let start = match after {
            Some(after) if after.id >= first => Bound::Excluded(after.id),
            _ => Bound::Included(first),
        };
        let ids = self.records.range((start, Bound::Unbounded));
        ids.map(|(id, _)| *id)
            .take_while(|id| id.as_str().starts_with(beginning))
            .take(count)
            .collect()
    }
}
