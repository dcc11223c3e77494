//! Sends the audit log from a handler.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, Responder};
use futures_core::Stream;

use crate::audit::AuditFormat;
use crate::error::Error;
use crate::manager::AuditExport;

/// Lets a handler return an export, which is sent as it is read, as a file.
///
/// If a page cannot be read, the response ends early: the connection is closed before the end of the
/// body, so that a client does not take the part for the whole. The route must be guarded for
/// administrators.
///
/// ```
/// use actix_web::{Responder, get, web};
/// use apikey_runtime::audit::AuditFormat;
/// use apikey_runtime::{ApiKeyManager, api_key_required};
///
/// #[get("/audit.csv")]
/// #[api_key_required(scope = "audit:read")]
/// async fn audit(manager: web::Data<ApiKeyManager>) -> impl Responder {
///     manager.audit().export(AuditFormat::SpreadsheetCsv)
/// }
/// ```
impl Responder for AuditExport {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        let file = match self.format() {
            AuditFormat::JsonLines => "attachment; filename=\"audit.jsonl\"",
            _ => "attachment; filename=\"audit.csv\"",
        };
        HttpResponse::Ok()
            .insert_header((
                header::CONTENT_TYPE,
                HeaderValue::from_static(self.format().media_type()),
            ))
            .insert_header((header::CONTENT_DISPOSITION, HeaderValue::from_static(file)))
            .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
            .streaming(ExportBody(self))
    }
}

/// The pieces of an export as a body.
struct ExportBody(AuditExport);

impl Stream for ExportBody {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = Pin::new(&mut self.0).poll_next(context);
        piece.map(|piece| piece.map(|text| text.map(Bytes::from)))
    }
}
