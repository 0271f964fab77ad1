//! What a route is: its method and path, what it takes and gives, and what does it. One row is the server's route,
//! the OpenAPI document's operation and the check of what is asked and answered.

use super::problem::Problem;
use super::shape::{Shape, always, list};
use crate::serve::administrator::{Administrator, How};
use axum::body::Body;
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;

/// Methods of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Shows.
    Get,
    /// Adds.
    Post,
    /// Replaces.
    Put,
    /// Changes.
    Patch,
    /// Removes.
    Delete,
}

/// A route.
pub struct Route {
    /// Its method.
    pub verb: Verb,
    /// Its path, with names in braces.
    pub path: &'static str,
    /// Its name, for programs that are made from the document.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The shape of its body, by its name.
    pub body: Option<&'static str>,
    /// What can stand behind `?`.
    pub query: &'static [Parameter],
    /// What it gives.
    pub gives: Gives,
    /// The errors that it can give beside those that any can.
    pub problems: &'static [&'static str],
    /// What does it.
    pub act: Act,
}

/// What does something that is asked.
pub type Act = fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What can stand behind `?`.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What it takes.
    pub takes: Takes,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// `true` or `false`.
    Flag,
    /// Texts with commas between.
    Words,
}

/// What a route gives.
#[derive(Debug, Clone, Copy)]
pub enum Gives {
    /// A shape of this name.
    One(&'static str),
    /// A table with a list of these under this key.
    List(&'static str, &'static str),
    /// Workers with sessions.
    Sessions,
    /// The document of this API.
    Document,
    /// Server-sent events.
    Events,
    /// Lines of JSON, as long as they are read.
    Lines,
    /// Whatever it is.
    Any,
}

/// What is asked.
pub struct Call {
    /// Whoever changes what is served.
    pub administrator: Administrator,
    /// The parts of the path that have names, in its order.
    pub path: Vec<String>,
    /// What stands behind `?`.
    pub query: Vec<(String, String)>,
    /// The same as it came.
    pub raw_query: String,
    /// The body, which has its shape; `null` where there is none.
    pub body: Value,
}

/// What comes of it.
pub type Answer = Result<Reply, Problem>;

/// An answer that is no error.
pub enum Reply {
    /// A value.
    Json(Value),
    /// Events from now on, of these kinds; of all where there is none.
    Events(Vec<String>),
    /// What goes on as long as it is read, of this media type.
    Stream(&'static str, Body),
}

impl Gives {
    /// Its shape.
    pub fn shape(self) -> Shape {
        match self {
            Gives::One(name) => Shape::Named(name),
            Gives::List(key, of) => Shape::Object(vec![always(key, list(Shape::Named(of)), "all of them")]),
            Gives::Sessions => Shape::Object(vec![
                always("workers", list(Shape::Named("Worker")), "the workers"),
                always("sessions", list(Shape::Named("Session")), "the sessions"),
            ]),
            Gives::Document | Gives::Events | Gives::Lines | Gives::Any => Shape::Any,
        }
    }
}

impl Call {
    /// The named part of the path at this place.
    pub fn named(&self, at: usize) -> &str {
        self.path.get(at).map_or("", String::as_str)
    }

    /// A number of the path.
    pub fn number(&self, at: usize, kind: &str) -> Result<u16, Problem> {
        let text = self.named(at);
        text.parse().map_err(|_| Problem::not_found(format!("there is no {kind} {text}"), "it is a number"))
    }

    /// How a change is to be made.
    pub fn how(&self) -> How {
        How { dry_run: self.flag("dry-run"), force: self.flag("force") }
    }

    /// Whether a parameter is `true`.
    pub fn flag(&self, name: &str) -> bool {
        self.query.iter().any(|(known, value)| known == name && value == "true")
    }
}
