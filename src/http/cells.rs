//! Orders about what the cells of which fields keep: show, change.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::admin::order;
use super::app::App;
use crate::config::parse_cell_rule;
use crate::{Database, Result};

/// GET: the rules in force, as text.
pub(super) async fn show(State(app): State<Arc<App>>, request: Request) -> Response {
    order(&app, request, |database, _| Ok(in_force(database))).await
}

/// PUT: gives the database `db=`, which must be named, these rules in place of all it has; an empty one says that there
/// are none.
pub(super) async fn change(State(app): State<Arc<App>>, request: Request) -> Response {
    order(&app, request, |database, params| {
        params.named("db")?;
        database.set_cell_rules(params.rules()?.map(parse_cell_rule).collect::<Result<_>>()?)?;
        Ok(in_force(database))
    })
    .await
}

fn in_force(database: &Database) -> Value {
    let rules = database.cell_rules();
    json!({"rules": rules.iter().map(|rule| rule.to_string()).collect::<Vec<_>>()})
}
