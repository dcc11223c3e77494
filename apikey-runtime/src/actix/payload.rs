//! Reads a body that may contain the key, within bounds, and replays it for the handler.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::web::{Bytes, BytesMut};
use futures_core::Stream;

use crate::denied::DenyReason;

/// The bounds of reading a body: size and time.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

/// Reads the whole body.
pub(super) async fn read(
    request: &HttpRequest,
    payload: Payload,
    bounds: BodyLimits,
) -> Result<Bytes, DenyReason> {
    // The handler's extractor would decompress the body, so these bounds would not hold for it.
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(DenyReason::UnsupportedContentEncoding);
    }
    let stated = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if stated
        .and_then(|length| length.parse::<u64>().ok())
        .is_some_and(|length| length > bounds.bytes as u64)
    {
        return Err(DenyReason::BodyTooLarge);
    }
    match tokio::time::timeout(bounds.time, gather(payload, bounds.bytes)).await {
        Ok(read) => read,
        Err(_) => Err(DenyReason::BodyTimeout),
    }
}

async fn gather(mut payload: Payload, limit: usize) -> Result<Bytes, DenyReason> {
    let mut body = BytesMut::new();
    while let Some(chunk) = poll_fn(|context| Pin::new(&mut payload).poll_next(context)).await {
        let chunk = chunk.map_err(|_broken| DenyReason::MalformedRequest)?;
        if body.len() + chunk.len() > limit {
            return Err(DenyReason::BodyTooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Returns a payload with `body`, as if it had not been read.
pub(super) fn replay(body: Bytes) -> Payload {
    Payload::Stream {
        payload: Box::pin(OnceBody(Some(body))),
    }
}

/// A stream of one chunk.
struct OnceBody(Option<Bytes>);

impl Stream for OnceBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().filter(|body| !body.is_empty()).map(Ok))
    }
}
