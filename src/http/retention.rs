//! Orders about how long data is kept: show, change, do it now, or say what would go. The JSON of the last is what
//! `icecore retention --dry-run` prints, too.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use icecore_storage::engine::{Guard, RetentionPlan, RetentionReport, TierPlan};
use icecore_storage::manifest::SegmentMeta;
use serde_json::{Value, json};

use super::admin::order;
use super::app::App;
use super::number::rfc3339;
use crate::config::{format_retention, parse_retention, parse_rule};
use crate::{Database, Result};

/// GET: the retention in force, as text.
pub(super) async fn show(State(app): State<Arc<App>>, request: Request) -> Response {
    order(&app, request, |database, _| Ok(in_force(database))).await
}

/// PUT: changes the retention of the database `db=`, which must be named: what is dropped does not come back. Rules
/// that are given replace all there are; an empty one says that there are none.
pub(super) async fn change(State(app): State<Arc<App>>, request: Request) -> Response {
    order(&app, request, |database, params| {
        params.named("db")?;
        if !params.has("rule[]") {
            database.set_retention(parse_retention(params.named("retention")?)?)?;
            return Ok(in_force(database));
        }
        let retention = params.get("retention").map(parse_retention).transpose()?;
        let retention = retention.unwrap_or_else(|| database.retention());
        let rules = params.rules()?.map(|text| parse_rule(retention, text)).collect::<Result<_>>()?;
        database.set_rules(retention, rules)?;
        Ok(in_force(database))
    })
    .await
}

/// POST: drops what is past its age, or says what would go.
pub(super) async fn apply(State(app): State<Arc<App>>, request: Request) -> Response {
    order(&app, request, |database, params| {
        let guard = if params.is_on("force") { Guard::Forced } else { Guard::Careful };
        if params.is_on("dry_run") {
            return Ok(plan_json(&database.plan_retention(guard)?));
        }
        Ok(report_json(&database.apply_retention(guard)?))
    })
    .await
}

fn in_force(database: &Database) -> Value {
    let rules = database.rules();
    let rules = rules
        .iter()
        .map(|rule| json!({"series": rule.to_string(), "retention": format_retention(&rule.retention())}));
    json!({"retention": format_retention(&database.retention()), "rules": rules.collect::<Vec<_>>()})
}

/// What a pass dropped.
pub(crate) fn report_json(report: &RetentionReport) -> Value {
    let [raw, m1, m5, h1] = report.dropped;
    json!({"dropped": {"raw": raw, "1m": m1, "5m": m5, "1h": h1}, "paused": report.paused})
}

/// What a pass would do.
pub(crate) fn plan_json(plan: &RetentionPlan) -> Value {
    let tiers: Vec<Value> = plan.tiers.iter().map(tier_json).collect();
    json!({"at": rfc3339(plan.now_ns), "retention": format_retention(&plan.retention), "tiers": tiers})
}

fn tier_json(plan: &TierPlan) -> Value {
    let TierPlan { tier, gone_before_ns, goes, held, hold, kept, next } = plan;
    let with_names = |metas: &[SegmentMeta]| {
        let mut sums = sums(metas);
        sums["segments"] = json!(metas.iter().map(SegmentMeta::file_name).collect::<Vec<_>>());
        sums
    };
    let mut held = with_names(held);
    held["reason"] = json!(hold.map(|hold| hold.reason()));
    let next = next.map(|(at_ns, files)| {
        let mut next = sums(kept.get(..files).unwrap_or_default());
        next["at"] = json!(rfc3339(at_ns));
        next
    });
    json!({
        "tier": tier.name(), "gone_before": gone_before_ns.map(rfc3339),
        "goes": with_names(goes), "held": held, "kept": sums(kept), "next": next
    })
}

fn sums(metas: &[SegmentMeta]) -> Value {
    let of = |value: fn(&SegmentMeta) -> u64| metas.iter().map(value).sum::<u64>();
    let start_ns = metas.iter().map(|meta| meta.partition.start_ns).min();
    let end_ns = metas.iter().map(|meta| meta.partition.end_ns).max();
    json!({
        "files": metas.len(), "rows": of(|meta| meta.rows), "bytes": of(|meta| meta.bytes),
        "start": start_ns.map(rfc3339), "end": end_ns.map(rfc3339)
    })
}
