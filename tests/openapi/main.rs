//! The OpenAPI document of an application, as the attribute describes it, and other people's tools
//! that read it.

mod app;
mod below;
mod document;
mod faulty;
mod gaps;
mod outside;
mod portal;
mod serving;
mod tools;
