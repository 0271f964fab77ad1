//! The OpenAPI document, made from the routes and shapes that the server itself uses.

use super::problem::CODES;
use super::route::{Gives, Route, Takes, Verb};
use super::routes::ROUTES;
use super::shape::Shape;
use super::shapes;
use serde_json::{Map, Value, json};

/// Errors that any request can end with.
const ANY: &[&str] = &["bad-request", "unauthorized", "time", "failed", "busy", "pending"];

/// The whole document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[verb(route.verb)] = operation(route);
    }
    let schemas: Map<String, Value> =
        shapes::named().iter().map(|(name, shape)| ((*name).to_owned(), shape.schema())).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lunette",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The administration of a Lunette target: HTTP with JSON on its unix socket, and over TLS with a \
                token. See docs/administration.md.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, {}],
        "tags": [{ "name": "lunette" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": problems(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// The errors by their status.
fn problems() -> Map<String, Value> {
    let mut responses = Map::new();
    for (code, status, about) in CODES {
        let response = responses.entry(status.to_string()).or_insert_with(|| {
            let schema = Shape::Named("Problem").schema();
            json!({ "description": "", "content": { "application/json": { "schema": schema } } })
        });
        let told = response["description"].as_str().unwrap_or_default();
        let between = if told.is_empty() { "" } else { "; " };
        response["description"] = format!("{told}{between}`{code}`: {about}").into();
    }
    responses
}

/// As `docs/openapi.json` has it.
#[cfg(test)]
fn text() -> String {
    format!("{:#}\n", document())
}

fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::Post => "post",
        Verb::Put => "put",
        Verb::Patch => "patch",
        Verb::Delete => "delete",
    }
}

fn operation(route: &Route) -> Value {
    let names = route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let named = names.map(
        |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }),
    );
    let query = route.query.iter().map(|parameter| {
        let schema = match parameter.takes {
            Takes::Flag => json!({ "type": "string", "enum": ["true", "false"] }),
            Takes::Words => json!({ "type": "string" }),
        };
        json!({ "name": parameter.name, "in": "query", "description": parameter.about, "schema": schema })
    });
    let parameters: Vec<Value> = named.chain(query).collect();
    let mut responses = Map::new();
    let content = match route.gives {
        Gives::Events => json!({ "text/event-stream": { "schema": { "type": "string" } } }),
        Gives::Lines => json!({ "application/x-ndjson": { "schema": { "type": "string" } } }),
        gives => json!({ "application/json": { "schema": gives.shape().schema() } }),
    };
    responses.insert("200".to_owned(), json!({ "description": route.about, "content": content }));
    let body: &[&str] = if route.body.is_some() { &["too-large", "media-type"] } else { &[] };
    let codes: Vec<&str> = [ANY, body, route.problems].concat();
    for (_, status, _) in CODES.iter().filter(|(code, ..)| codes.contains(code)) {
        responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{status}") }));
    }
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.about,
        "tags": ["lunette"],
        "responses": responses,
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = route.body {
        let schema = Shape::Named(body).schema();
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_published_document_is_the_one_that_is_served() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        if std::env::var_os("LUNETTE_WRITE").is_some() {
            std::fs::write(&path, text()).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(published == text(), "docs/openapi.json is old; LUNETTE_WRITE=1 writes it anew");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_name_is_used_once() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
        for (name, _) in shapes::named().iter().filter(|(name, _)| !["Event", "Refusal"].contains(name)) {
            assert!(text.contains(&format!("#/components/schemas/{name}\"")), "nothing is a {name}");
        }
        let mut names: Vec<&str> = ROUTES.iter().map(|route| route.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|two| two[0] != two[1]), "{names:?}");
        for route in ROUTES {
            let known = |code: &&str| CODES.iter().any(|(known, ..)| known == code);
            assert!(route.problems.iter().all(known), "{}", route.name);
            assert!(route.body.is_none_or(|body| shapes::find(body).is_some()), "{}", route.name);
        }
    }
}
