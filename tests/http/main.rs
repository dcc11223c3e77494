//! Guarded requests over HTTP: the guard, handlers and their arguments, the middleware, denials,
//! managers.

mod denials;
mod extractor;
mod guard;
mod handlers;
mod managers;
mod middleware;
mod optional;
mod payload;
mod strip;
mod workers;
