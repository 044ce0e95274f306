//! Requests and their answers.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{Request, chunk, respond, respond_stream, status};
use super::selector::{matches_fields, matches_labels};
use super::store::{RESOURCES, Resource};
use super::{Fault, Release, Shared, State};

/// Serves one connection until either side ends it.
pub(crate) fn connection(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(request) = Request::read(&mut reader)? {
        let fault = {
            let mut state = shared.lock();
            state.requests.push(request.clone());
            let found = state.faults.iter().position(|s| (s.when)(&request));
            found
                .and_then(|index| state.faults.remove(index))
                .map(|script| script.fault)
        };
        match fault {
            Some(fault) => {
                let met = meet(fault, &mut stream, &request);
                // The server keeps a handle of its own: dropping this one would not close the connection.
                let _ = stream.shutdown(Shutdown::Both);
                return met;
            }
            None => answer(&mut stream, &request, shared)?,
        }
    }
    Ok(())
}

fn meet(fault: Fault, stream: &mut TcpStream, request: &Request) -> io::Result<()> {
    match fault {
        Fault::Status {
            code,
            reason,
            retry_after,
        } => respond(
            stream,
            request,
            code,
            retry_after,
            &status(code, reason, "scripted"),
        ),
        Fault::Raw(bytes) => stream.write_all(&bytes),
        Fault::WatchLines(lines) => {
            respond_stream(stream)?;
            lines
                .iter()
                .try_for_each(|line| chunk(stream, &format!("{line}\n")))?;
            chunk(stream, "")
        }
        Fault::WatchCut(text) => {
            respond_stream(stream)?;
            // The chunk promises more than comes.
            stream.write_all(format!("{:x}\r\n{text}", text.len() + 100).as_bytes())
        }
        Fault::WatchSilent => {
            respond_stream(stream)?;
            // Until the client gives up, or the server is dropped.
            stream.read_to_end(&mut Vec::new()).map(drop)
        }
        Fault::Hangup => Ok(()),
    }
}

/// What a path means.
struct Target {
    resource: &'static Resource,
    /// Asked for as v1beta1.
    beta: bool,
    namespace: Option<String>,
    name: Option<String>,
}

fn target(path: &str) -> Option<Target> {
    let v1 = path.replace("/discovery.k8s.io/v1beta1/", "/discovery.k8s.io/v1/");
    RESOURCES.iter().find_map(|resource| {
        let rest = v1.strip_prefix(resource.root)?;
        let words: Vec<&str> = rest.trim_matches('/').split('/').collect();
        let (namespace, name) = match words.as_slice() {
            [plural] if *plural == resource.plural => (None, None),
            [plural, name] if *plural == resource.plural && !resource.namespaced => {
                (None, Some(*name))
            }
            ["namespaces", ns, plural] if *plural == resource.plural => (Some(*ns), None),
            ["namespaces", ns, plural, name] if *plural == resource.plural => {
                (Some(*ns), Some(*name))
            }
            _ => return None,
        };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Target {
            resource,
            beta: v1 != path,
            namespace: owned(namespace),
            name: owned(name),
        })
    })
}

fn served(release: Release, target: &Target) -> bool {
    match (target.resource.plural, release) {
        ("servicecidrs", Release::V1_20 | Release::EndpointsOnly) => false,
        ("endpointslices", Release::V1_20) => target.beta,
        ("endpointslices", Release::EndpointsOnly) => false,
        _ => true,
    }
}

fn answer(stream: &mut TcpStream, request: &Request, shared: &Shared) -> io::Result<()> {
    let release = shared.lock().release;
    let expected = shared.lock().token.clone();
    let expected = expected.map(|token| format!("Bearer {token}"));
    if expected.is_some() && request.headers.get("authorization") != expected.as_ref() {
        let body = status(401, "Unauthorized", "Unauthorized");
        return respond(stream, request, 401, None, &body);
    }
    if matches!(request.path.as_str(), "/readyz" | "/healthz" | "/livez") {
        return respond(stream, request, 200, None, &json!("ok"));
    }
    let Some(target) = target(&request.path).filter(|target| served(release, target)) else {
        let gone = status(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
        return respond(stream, request, 404, None, &gone);
    };
    match (request.method.as_str(), &target.name) {
        ("GET", None) if request.is_watch() => watch(stream, request, &target, shared),
        ("GET", None) => {
            let (code, body) = list(request, &target, &shared.lock());
            respond(stream, request, code, None, &body)
        }
        _ => {
            let (code, body) = edit(request, &target, &mut shared.lock());
            shared.changed.notify_all();
            respond(stream, request, code, None, &body)
        }
    }
}

fn list(request: &Request, target: &Target, state: &State) -> (u16, Value) {
    let newest = state.store.version();
    let wanted = request.param("resourceVersion");
    let Ok(version) = (if wanted.is_empty() { "0" } else { wanted }).parse::<u64>() else {
        return (
            400,
            status(
                400,
                "BadRequest",
                &format!("invalid resource version \"{wanted}\""),
            ),
        );
    };
    if let Some(refusal) = refuse_field_selector(request, target, state.release) {
        return refusal;
    }
    if version > newest {
        return (504, too_large(version, newest));
    }
    let mut start = 0;
    if let Some((at, offset)) = request
        .query
        .get("continue")
        .and_then(|token| token.split_once(':'))
    {
        start = offset.parse().unwrap_or(0);
        if at
            .parse::<u64>()
            .map_or(true, |at| at < state.store.compacted())
        {
            let message =
                "The provided continue parameter is too old to display a consistent list result.";
            return (410, status(410, "Expired", message));
        }
    }
    let selected: Vec<&Value> = state
        .store
        .list(target.resource, target.namespace.as_deref())
        .into_iter()
        .filter(|object| selects(request, object))
        .collect();
    // The watch cache answers resourceVersion=0 and any exact "at least" version, and ignores the limit then.
    let cached = state.cached && !wanted.is_empty() && !request.query.contains_key("continue");
    let limit = match request.param("limit").parse() {
        Ok(limit) if limit > 0 && !cached => limit,
        _ => usize::MAX,
    };
    let page: Vec<Value> = selected
        .iter()
        .skip(start)
        .take(limit)
        .map(|object| item(object))
        .collect();
    let mut metadata = json!({"resourceVersion": newest.max(1).to_string()});
    let next = start.saturating_add(page.len());
    if next < selected.len() {
        metadata["continue"] = json!(format!("{newest}:{next}"));
        metadata["remainingItemCount"] = json!(selected.len() - next);
    }
    let kind = format!("{}List", target.resource.kind);
    (
        200,
        json!({"kind": kind, "apiVersion": version_of(target), "metadata": metadata, "items": page}),
    )
}

/// List items carry neither kind nor apiVersion.
fn item(object: &Value) -> Value {
    let mut item = object.clone();
    if let Some(map) = item.as_object_mut() {
        map.remove("kind");
        map.remove("apiVersion");
    }
    item
}

fn version_of(target: &Target) -> &'static str {
    if target.beta {
        "discovery.k8s.io/v1beta1"
    } else {
        target.resource.api_version
    }
}

fn selects(request: &Request, object: &Value) -> bool {
    matches_labels(request.param("labelSelector"), object)
        && matches_fields(request.param("fieldSelector"), object)
}

fn refuse_field_selector(
    request: &Request,
    target: &Target,
    release: Release,
) -> Option<(u16, Value)> {
    let refused = release != Release::V1_36
        && target.resource.plural == "services"
        && request.param("fieldSelector").contains("spec.clusterIP");
    refused.then(|| {
        let message = "Unable to find \"/v1, Resource=services\" that match label selector: \
                       field label not supported: spec.clusterIP";
        (400, status(400, "BadRequest", message))
    })
}

fn too_large(wanted: u64, newest: u64) -> Value {
    let mut body = status(
        504,
        "Timeout",
        &format!("Timeout: Too large resource version: {wanted}, current: {newest}"),
    );
    body["details"] = json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    });
    body
}

fn edit(request: &Request, target: &Target, state: &mut State) -> (u16, Value) {
    let namespace = target.namespace.clone().unwrap_or_default();
    let name = target.name.clone().unwrap_or_default();
    let missing = || {
        (
            404,
            status(
                404,
                "NotFound",
                &format!("{} \"{name}\" not found", target.resource.plural),
            ),
        )
    };
    let body = || serde_json::from_slice::<Value>(&request.body);
    match request.method.as_str() {
        "GET" => match state.store.get(target.resource, &namespace, &name) {
            Some(object) => (200, object.clone()),
            None => missing(),
        },
        "DELETE" => match state.store.delete(target.resource, &namespace, &name) {
            Some(object) => (200, object),
            None => missing(),
        },
        "POST" | "PUT" => match body() {
            Ok(mut object) => {
                // What the path says need not be said again.
                object["kind"] = json!(target.resource.kind);
                object["apiVersion"] = json!(target.resource.api_version);
                if target.resource.namespaced {
                    object["metadata"]["namespace"] = json!(namespace);
                }
                stored(
                    state.store.put(object),
                    if request.method == "POST" { 201 } else { 200 },
                )
            }
            Err(error) => (400, status(400, "BadRequest", &error.to_string())),
        },
        "PATCH" => {
            let Some(mut object) = state.store.get(target.resource, &namespace, &name).cloned()
            else {
                return missing();
            };
            match body() {
                Ok(patch) => {
                    merge(&mut object, patch);
                    stored(state.store.put(object), 200)
                }
                Err(error) => (400, status(400, "BadRequest", &error.to_string())),
            }
        }
        other => (405, status(405, "MethodNotAllowed", other)),
    }
}

fn stored(result: Result<Value, String>, code: u16) -> (u16, Value) {
    match result {
        Ok(object) => (code, object),
        Err(message) => (422, status(422, "Invalid", &message)),
    }
}

/// JSON merge patch (RFC 7386).
fn merge(object: &mut Value, patch: Value) {
    match patch {
        Value::Object(patch) => {
            if !object.is_object() {
                *object = json!({});
            }
            for (key, value) in patch {
                match value {
                    Value::Null => drop(object.as_object_mut().and_then(|map| map.remove(&key))),
                    value => merge(&mut object[key], value),
                }
            }
        }
        other => *object = other,
    }
}

/// Where a watch is.
struct Watch<'a> {
    request: &'a Request,
    target: &'a Target,
    /// Changes up to this version have been sent.
    version: u64,
    generation: u64,
    injected: usize,
    next_bookmark: Instant,
    end: Instant,
}

fn watch(
    stream: &mut TcpStream,
    request: &Request,
    target: &Target,
    shared: &Shared,
) -> io::Result<()> {
    let refusal = refuse_watch(request, target, &shared.lock());
    if let Some((code, body)) = refusal {
        return respond(stream, request, code, None, &body);
    }
    respond_stream(stream)?;
    let version: u64 = request.param("resourceVersion").parse().unwrap_or(0);
    if version > 0 && version < shared.lock().store.compacted() {
        let newest = shared.lock().store.version();
        let old = status(
            410,
            "Expired",
            &format!("too old resource version: {version} ({newest})"),
        );
        chunk(
            stream,
            &format!("{}\n", json!({"type": "ERROR", "object": old})),
        )?;
        return chunk(stream, "");
    }
    // One look at the state: what happens after it belongs to the watch.
    let (initial, mut watch) = {
        let mut state = shared.lock();
        state.watching.push(target.resource.plural);
        let seconds = request.param("timeoutSeconds").parse().unwrap_or(1800);
        let initial = initial_events(request, target, &state, version);
        let watch = Watch {
            request,
            target,
            version: match initial.is_empty() && version > 0 {
                true => version,
                false => state.store.version(),
            },
            generation: state.watch_generation,
            injected: state.injected.len(),
            next_bookmark: Instant::now() + state.bookmark_interval,
            end: Instant::now() + Duration::from_secs(seconds),
        };
        (initial, watch)
    };
    let mut lines = initial.iter();
    let sent = lines.try_for_each(|line| chunk(stream, line));
    let ended = sent.and_then(|()| follow(stream, &mut watch, shared));
    let open = &mut shared.lock().watching;
    if let Some(at) = open.iter().position(|it| *it == target.resource.plural) {
        open.swap_remove(at);
    }
    ended
}

fn refuse_watch(request: &Request, target: &Target, state: &State) -> Option<(u16, Value)> {
    if let Some(refusal) = refuse_field_selector(request, target, state.release) {
        return Some(refusal);
    }
    if state.release != Release::V1_36 && !request.param("resourceVersionMatch").is_empty() {
        let message = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                       resourceVersionMatch is forbidden for watch";
        return Some((422, status(422, "Invalid", message)));
    }
    let version = request.param("resourceVersion").parse().unwrap_or(0);
    let newest = state.store.version();
    (version > newest).then(|| (504, too_large(version, newest)))
}

/// The state at the start: all of it for a watch from nothing, with the closing bookmark if asked for.
fn initial_events(request: &Request, target: &Target, state: &State, version: u64) -> Vec<String> {
    let streaming = request.param("sendInitialEvents") == "true";
    if version != 0 && !streaming {
        return Vec::new();
    }
    let objects = state
        .store
        .list(target.resource, target.namespace.as_deref());
    let selected = objects
        .into_iter()
        .filter(|object| selects(request, object));
    let mut lines: Vec<String> = selected
        .map(|object| event("ADDED", target, object))
        .collect();
    if streaming {
        lines.push(bookmark(
            target,
            state.store.version(),
            json!({"k8s.io/initial-events-end": "true"}),
        ));
    }
    lines
}

fn event(kind: &str, target: &Target, object: &Value) -> String {
    let mut object = object.clone();
    object["apiVersion"] = json!(version_of(target));
    object["kind"] = json!(target.resource.kind);
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn bookmark(target: &Target, version: u64, annotations: Value) -> String {
    let mut metadata = json!({"resourceVersion": version.max(1).to_string()});
    if annotations.is_object() {
        metadata["annotations"] = annotations;
    }
    event("BOOKMARK", target, &json!({"metadata": metadata}))
}

/// Sends what changes until the watch's time is over, somebody ends it, or the client goes away.
fn follow(stream: &mut TcpStream, watch: &mut Watch<'_>, shared: &Shared) -> io::Result<()> {
    loop {
        let (lines, over) = {
            let state = shared.lock();
            let wake = watch.next_bookmark.min(watch.end);
            let nothing = |state: &mut State| {
                state.store.version() == watch.version
                    && state.injected.len() == watch.injected
                    && state.watch_generation == watch.generation
                    && !shared.stopped.load(Ordering::Relaxed)
            };
            let patience = wake.saturating_duration_since(Instant::now());
            let (state, _) = shared
                .changed
                .wait_timeout_while(state, patience, nothing)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            let over = state.watch_generation != watch.generation
                || shared.stopped.load(Ordering::Relaxed);
            (pending(watch, &state), over)
        };
        for line in lines {
            chunk(stream, &line)?;
        }
        if over || Instant::now() >= watch.end {
            return chunk(stream, "");
        }
    }
}

/// The lines that a watch has not sent yet; moves it on.
fn pending(watch: &mut Watch<'_>, state: &State) -> Vec<String> {
    let mut lines = Vec::new();
    for change in state.store.changes_after(watch.version) {
        if change.resource != watch.target.resource {
            continue;
        }
        let in_namespace = |object: &&Value| {
            watch
                .target
                .namespace
                .as_deref()
                .is_none_or(|ns| object["metadata"]["namespace"] == ns)
        };
        let seen = |object: &Option<Value>| {
            object
                .as_ref()
                .filter(|o| in_namespace(o))
                .is_some_and(|object| selects(watch.request, object))
        };
        // Who leaves the selection is deleted for this watch, who enters it is added.
        let kind = match (seen(&change.before), seen(&change.after)) {
            (false, false) => continue,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        let Some(mut object) = change.after.clone().or_else(|| change.before.clone()) else {
            continue;
        };
        object["metadata"]["resourceVersion"] = json!(change.version.to_string());
        lines.push(event(kind, watch.target, &object));
    }
    watch.version = state.store.version();
    for (plural, line) in &state.injected[watch.injected..] {
        if plural == watch.target.resource.plural {
            lines.push(format!("{line}\n"));
        }
    }
    watch.injected = state.injected.len();
    if Instant::now() >= watch.next_bookmark {
        if watch.request.param("allowWatchBookmarks") == "true" {
            lines.push(bookmark(watch.target, watch.version, Value::Null));
        }
        watch.next_bookmark = Instant::now() + state.bookmark_interval;
    }
    lines
}
