//! Writes the audit log, page by page.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::AuditRequest;
use crate::audit::AuditFormat;
use crate::error::Error;
use crate::manager::BoxFuture;
use crate::store::AuditPage;

/// The entries of an [`AuditRequest`] as text, page by page; see [`AuditRequest::export`].
///
/// It also implements [`Stream`], for use with stream combinators, and actix-web's `Responder`: a
/// handler that returns it sends a file as it is read.
///
/// After an error, it ends. What it has written until then is complete lines.
#[must_use = "nothing is read until this is polled"]
pub struct AuditExport {
    /// `None` after the last page.
    request: Option<AuditRequest>,
    format: AuditFormat,
    /// The page that is being read.
    reading: Option<BoxFuture<AuditPage>>,
    /// What is to be written before the next page.
    header: String,
}

impl AuditExport {
    pub(super) fn new(request: AuditRequest, format: AuditFormat) -> Self {
        Self {
            request: Some(request),
            format,
            reading: None,
            header: format.header(),
        }
    }

    /// Returns the format.
    #[must_use]
    pub fn format(&self) -> AuditFormat {
        self.format
    }

    /// Returns the next piece of text, of one or more lines; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<String, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Writes a page, and prepares the next one.
    fn write(&mut self, page: AuditPage) -> String {
        let mut text = std::mem::take(&mut self.header);
        text += &self.format.rows(&page.entries);
        match (&mut self.request, page.next) {
            (Some(request), Some(next)) => request.query.before = Some(next),
            (request, _) => *request = None,
        }
        text
    }
}

impl Stream for AuditExport {
    type Item = Result<String, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let Some(request) = &this.request else {
                return Poll::Ready(None);
            };
            let reading = this
                .reading
                .get_or_insert_with(|| Box::pin(request.clone()));
            let outcome = ready!(reading.as_mut().poll(context));
            this.reading = None;
            match outcome {
                Ok(page) => {
                    let text = this.write(page);
                    if !text.is_empty() {
                        return Poll::Ready(Some(Ok(text)));
                    }
                }
                Err(error) => {
                    this.request = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl fmt::Debug for AuditExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditExport")
            .field("request", &self.request)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}
