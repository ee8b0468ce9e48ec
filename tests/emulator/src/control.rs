//! The tests' own requests, under `/_emulator/`: the clock, tiers, faults, events, and a look inside. They need no signature.

use std::collections::HashMap;
use std::fs;
use std::io;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::clock::DAY;
use crate::faults::Fault;
use crate::http::{Answer, text};
use crate::state::{State, id};
use crate::tiering::{Delays, Tier};

/// What a request did wrong.
struct Wrong(String);

impl<E: std::error::Error> From<E> for Wrong {
    fn from(error: E) -> Wrong {
        Wrong(error.to_string())
    }
}

type Query = HashMap<String, String>;

/// Answers one request.
pub(crate) fn answer(state: &State, method: &Method, path: &str, query: &str, body: &[u8]) -> Answer {
    let query: Query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let (status, body) = match act(state, method, path, &query, body) {
        Ok(Some(value)) => (StatusCode::OK, value),
        Ok(None) => (StatusCode::NOT_FOUND, json!({ "error": format!("no {method} /_emulator/{path}") })),
        Err(Wrong(error)) => (StatusCode::BAD_REQUEST, json!({ "error": error })),
    };
    let mut answer = text(status, body.to_string());
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn act(state: &State, method: &Method, path: &str, query: &Query, body: &[u8]) -> Result<Option<Value>, Wrong> {
    let done = Ok(Some(json!({})));
    match (method.as_str(), path) {
        ("POST", "advance") => {
            let seconds = optional::<f64>(query, "days")?.unwrap_or(0.0) * DAY + optional(query, "seconds")?.unwrap_or(0.0);
            let offset = state.clock.advance(seconds)?;
            state.tick()?;
            Ok(Some(json!({ "offset": offset, "now": state.clock.now() })))
        }
        ("GET", "clock") => Ok(Some(json!({ "offset": state.clock.offset(), "now": state.clock.now() }))),
        ("GET", "objects") => objects(state, query).map(Some),
        ("GET", "counters") => Ok(Some(counters(state))),
        ("DELETE", "counters") => {
            let mut inner = state.lock();
            inner.control.requests.clear();
            inner.control.refused.clear();
            inner.restores.remove_under("")?;
            inner.save()?;
            done
        }
        ("POST", "archive") => archive(state, query).map(Some),
        ("POST", "finish") => {
            let (bucket, key) = (required(query, "bucket")?, required(query, "key")?);
            let now = state.clock.now();
            let mut inner = state.lock();
            let there = inner.objects.edit(&id(bucket, key), |object| {
                if let Some(restore) = &mut object.restore {
                    restore.ready = now;
                }
            })?;
            drop(inner);
            state.tick()?;
            Ok(there.then(|| json!({})))
        }
        ("POST", "corrupt") => {
            let (bucket, key) = (required(query, "bucket")?, required(query, "key")?);
            let current = state
                .lock()
                .objects
                .get(&id(bucket, key))
                .and_then(|object| object.version.id.clone());
            let path = state.body(bucket, key, current.as_deref());
            let mut bytes = fs::read(&path)?;
            let offset: usize = optional(query, "offset")?.unwrap_or(0);
            let byte = bytes
                .get_mut(offset)
                .ok_or_else(|| Wrong(format!("the object ends before {offset}")))?;
            *byte ^= 0xff;
            fs::write(&path, bytes)?;
            done
        }
        ("POST", "delays") => {
            let told: serde_json::Map<String, Value> = serde_json::from_slice(body)?;
            let mut inner = state.lock();
            let mut delays = serde_json::to_value(&inner.control.delays)?;
            if let Some(fields) = delays.as_object_mut() {
                fields.extend(told);
            }
            inner.control.delays = serde_json::from_value::<Delays>(delays.clone())?;
            inner.save()?;
            Ok(Some(delays))
        }
        ("POST", "deny") => {
            let mut inner = state.lock();
            inner.control.denied.insert(required(query, "operation")?.to_owned());
            inner.save()?;
            done
        }
        ("DELETE", "deny") => {
            let mut inner = state.lock();
            match query.get("operation") {
                Some(operation) => drop(inner.control.denied.remove(operation)),
                None => inner.control.denied.clear(),
            }
            inner.save()?;
            done
        }
        ("POST", "events") => {
            let mut inner = state.lock();
            inner.control.drop_events = optional(query, "drop")?.unwrap_or(inner.control.drop_events);
            inner.control.duplicate_events = optional(query, "duplicate")?.unwrap_or(inner.control.duplicate_events);
            inner.control.early = optional(query, "early")?.unwrap_or(inner.control.early);
            inner.save()?;
            done
        }
        ("POST", "faults") => {
            let mut fault: Fault = serde_json::from_slice(body)?;
            let mut inner = state.lock();
            fault.id = inner.next_number()?;
            let id = fault.id;
            inner.control.faults.push(fault);
            inner.save()?;
            Ok(Some(json!({ "id": id })))
        }
        ("GET", "faults") => Ok(Some(serde_json::to_value(&state.lock().control.faults)?)),
        ("DELETE", "faults") => {
            let id: Option<u64> = optional(query, "id")?;
            let mut inner = state.lock();
            inner.control.faults.retain(|fault| id.is_some_and(|id| id != fault.id));
            inner.save()?;
            done
        }
        _ => Ok(None),
    }
}

/// The objects of a bucket under a prefix, as they are now.
fn objects(state: &State, query: &Query) -> Result<Value, Wrong> {
    state.tick()?;
    let prefix = id(required(query, "bucket")?, "");
    let wanted = format!("{prefix}{}", query.get("prefix").map(String::as_str).unwrap_or_default());
    let inner = state.lock();
    let objects = inner.objects.under(&wanted).filter(|(_, object)| !object.pending);
    let objects = objects.map(|(id, object)| {
        json!({
            "key": id.strip_prefix(&prefix),
            "size": object.size,
            "class": object.class,
            "tier": object.tier,
            "last_access": object.last_access,
            "restore": object.restore.as_ref().map(|restore| json!({
                "tier": restore.tier, "requested": restore.requested, "ready": restore.ready,
            })),
        })
    });
    Ok(objects.collect())
}

fn counters(state: &State) -> Value {
    let inner = state.lock();
    let restores: Vec<_> = inner.restores.iter().map(|(_, asked)| asked).collect();
    json!({ "requests": inner.control.requests, "refused": inner.control.refused, "restores": restores })
}

/// Puts objects into a tier, whatever the configuration says.
fn archive(state: &State, query: &Query) -> Result<Value, Wrong> {
    let bucket = id(required(query, "bucket")?, "");
    let tier = match required(query, "tier")? {
        "NONE" => None,
        "ARCHIVE_ACCESS" => Some(Tier::ArchiveAccess),
        "DEEP_ARCHIVE_ACCESS" => Some(Tier::DeepArchiveAccess),
        other => return Err(Wrong(format!("tier={other} is no tier"))),
    };
    let mut inner = state.lock();
    let ids: Vec<String> = match query.get("key") {
        Some(key) => vec![format!("{bucket}{key}")],
        None => {
            let prefix = format!("{bucket}{}", required(query, "prefix")?);
            inner.objects.under(&prefix).map(|(id, _)| id.clone()).collect()
        }
    };
    let now = state.clock.now();
    let mut changed = 0;
    for id in ids {
        let there = inner.objects.edit(&id, |object| {
            object.tier = tier;
            object.restore = None;
            object.last_access = now;
        })?;
        changed += usize::from(there);
    }
    if changed == 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no such object").into());
    }
    Ok(json!({ "changed": changed }))
}

fn required<'a>(query: &'a Query, name: &str) -> Result<&'a str, Wrong> {
    query
        .get(name)
        .map(String::as_str)
        .ok_or_else(|| Wrong(format!("{name}= is missing")))
}

fn optional<T: std::str::FromStr>(query: &Query, name: &str) -> Result<Option<T>, Wrong> {
    let parsed = query
        .get(name)
        .map(|value| value.parse().map_err(|_| Wrong(format!("{name}= is not a number"))));
    parsed.transpose()
}
