//! The JSON schema (draft 2020-12) of a Sandboxfile, for editors, generated from the types.

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings, json_schema};

use super::check::NAME_PATTERN;
use super::groups::GroupSpec;
use super::spec::{SandboxSpec, Sandboxfile};

/// The schema as it stands in `Sandboxfile.schema.json`: indented, with a final line break.
pub fn schema() -> String {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Sandboxfile>();
    schema.insert("title".to_owned(), "Sandboxfile".into());
    format!("{:#}\n", schema.to_value())
}

/// The keys of one sandbox.
pub(super) fn sandbox_keys() -> Vec<String> {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<SandboxSpec>();
    let properties = schema.get("properties").and_then(|value| value.as_object());
    properties.map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
}

/// A map by name that may be left empty.
pub(super) fn sandboxes(generator: &mut SchemaGenerator) -> Schema {
    let sandbox = generator.subschema_for::<SandboxSpec>();
    json_schema!({
        "type": ["object", "null"],
        "propertyNames": { "pattern": NAME_PATTERN },
        "additionalProperties": sandbox,
    })
}

/// A scalar that is taken as it is written.
fn scalar() -> serde_json::Value {
    serde_json::json!({ "type": ["string", "number", "boolean"] })
}

pub(super) fn scripts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["object", "null"],
        "propertyNames": { "pattern": NAME_PATTERN },
        "additionalProperties": { "type": "string" },
    })
}

pub(super) fn envs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "oneOf": [
            { "type": "array", "items": { "type": "string", "pattern": "^[^=]+=" } },
            { "type": "object", "propertyNames": { "pattern": "^[^=]+$" }, "additionalProperties": scalar() },
            { "type": "null" },
        ],
    })
}

pub(super) fn one_or_many(_: &mut SchemaGenerator) -> Schema {
    let path = serde_json::json!({ "type": "string", "minLength": 1 });
    json_schema!({ "oneOf": [path, { "type": "array", "items": path }, { "type": "null" }] })
}

pub(super) fn texts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["array", "null"], "items": scalar() })
}

pub(super) fn volumes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["array", "null"],
        "items": { "type": "string", "pattern": r"^([^:\\]|\\.)+:/([^:\\]|\\.)+(:r[ow])?$" },
    })
}

pub(super) fn tmpfs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["array", "null"],
        "items": { "type": "string", "pattern": r"^/([^:\\]|\\.)+(:((size|mode)=[0-9A-Za-z.]+,?)+)?$" },
    })
}

pub(super) fn scope(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["none", "group", "public", "any", null] })
}

/// What every rule looks like; the rest of the grammar is said by msb.
fn rules() -> serde_json::Value {
    serde_json::json!({
        "type": ["array", "null"],
        "items": { "type": "string", "pattern": r"^\s*(allow|deny)\s+((to|from)\s+)?((tcp|udp|icmp)://)?\S+\s*$" },
    })
}

pub(super) fn network(_: &mut SchemaGenerator) -> Schema {
    let long = serde_json::json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "scope": { "enum": ["none", "group", "public", "any", null] },
            "rules": rules(),
            "log": { "type": ["boolean", "null"] },
            "bandwidth": { "type": ["string", "integer", "null"] },
            "proxy": { "type": ["string", "null"], "pattern": "^(socks5h?://|http://|env:|file:/)" },
            "max_connections": { "type": ["integer", "null"], "minimum": 1 },
            "connection_rate": { "type": ["integer", "null"], "minimum": 1 },
        },
    });
    json_schema!({ "oneOf": [rules(), long] })
}

pub(super) fn groups(generator: &mut SchemaGenerator) -> Schema {
    let group = generator.subschema_for::<Option<GroupSpec>>();
    json_schema!({
        "type": ["object", "null"],
        "propertyNames": { "pattern": NAME_PATTERN },
        "additionalProperties": group,
    })
}

pub(super) fn memberships(_: &mut SchemaGenerator) -> Schema {
    let names = serde_json::json!({ "pattern": NAME_PATTERN });
    let text = serde_json::json!({ "type": ["string", "null"], "minLength": 1 });
    let network = serde_json::json!({
        "type": ["object", "null"],
        "properties": { "ip": text, "hostname": text },
        "additionalProperties": false,
    });
    let member = serde_json::json!({
        "type": ["object", "null"],
        "properties": { "network": network },
        "additionalProperties": false,
    });
    json_schema!({
        "oneOf": [
            { "type": "array", "items": names, "uniqueItems": true },
            { "type": "object", "propertyNames": names, "additionalProperties": member },
            { "type": "null" },
        ],
    })
}

pub(super) fn subnet(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "pattern": r"^[0-9A-Fa-f.:]+/\d+$" })
}

pub(super) fn ports(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["array", "null"],
        "items": {
            "type": ["string", "integer"],
            "minimum": 1,
            "maximum": 65535,
            "pattern": r"^(((\d+\.){3}\d+|\[[0-9A-Fa-f:.]+\]):)?(\d+(-\d+)?:)?\d+(-\d+)?(/(tcp|udp))?$",
        },
    })
}

pub(super) fn secrets(_: &mut SchemaGenerator) -> Schema {
    let text = serde_json::json!({ "type": "string", "minLength": 1 });
    let words = serde_json::json!({ "type": "array", "minItems": 1, "items": scalar() });
    let host = serde_json::json!({ "type": "string", "pattern": r"^(\*\.)?[^*:/\s]+$" });
    let place = serde_json::json!({ "enum": ["header", "basic", "query", "path", "body"] });
    json_schema!({
        "type": ["object", "null"],
        "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
        "additionalProperties": {
            "type": "object",
            "additionalProperties": false,
            "required": ["hosts"],
            "properties": {
                "from": {
                    "type": ["object", "null"],
                    "additionalProperties": false,
                    "minProperties": 1,
                    "maxProperties": 1,
                    "properties": { "env": text, "file": text, "command": words, "keyring": text },
                },
                "hosts": { "oneOf": [host, { "type": "array", "minItems": 1, "items": host }] },
                "in": { "oneOf": [place, { "type": "array", "items": place }, { "type": "null" }] },
            },
        },
    })
}

pub(super) fn version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "pattern": r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$" })
}

pub(super) fn depends_on(_: &mut SchemaGenerator) -> Schema {
    let names = serde_json::json!({ "pattern": NAME_PATTERN });
    let condition = serde_json::json!({
        "type": ["object", "null"],
        "properties": { "condition": { "enum": ["started", "healthy", "completed"] } },
        "additionalProperties": false,
    });
    json_schema!({
        "oneOf": [
            { "type": "array", "items": names, "uniqueItems": true },
            { "type": "object", "propertyNames": names, "additionalProperties": condition },
            { "type": "null" },
        ],
    })
}

/// An absolute path in a sandbox.
const PLACE: &str = "^/.";

pub(super) fn exports(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["object", "null"],
        "propertyNames": { "pattern": NAME_PATTERN },
        "additionalProperties": { "type": "string", "pattern": PLACE },
    })
}

pub(super) fn imports(_: &mut SchemaGenerator) -> Schema {
    let place = serde_json::json!({ "type": "string", "pattern": PLACE });
    let names = serde_json::json!({
        "type": "object",
        "propertyNames": { "pattern": NAME_PATTERN },
        "additionalProperties": place,
        "minProperties": 1,
    });
    json_schema!({
        "type": ["object", "null"],
        "patternProperties": { "^[/.~]": place },
        "additionalProperties": { "oneOf": [place, names] },
    })
}

pub(super) fn modules(_: &mut SchemaGenerator) -> Schema {
    let component = serde_json::json!({
        "type": ["object", "null"],
        "properties": { "as": { "type": ["string", "null"], "pattern": NAME_PATTERN } },
        "additionalProperties": false,
    });
    json_schema!({
        "type": ["object", "null"],
        "additionalProperties": {
            "type": "object",
            "propertyNames": { "pattern": NAME_PATTERN },
            "additionalProperties": component,
            "minProperties": 1,
        },
    })
}

pub(super) fn restart(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": r"^(no|on-failure(:\d+)?|always)$" })
}

pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "pattern": r"^\s*(\d+(\.\d+)?\s*[a-zµ]+[\s,]*)+$" })
}

pub(super) fn health_test(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "oneOf": [{ "type": "string", "minLength": 1 }, { "type": "array", "items": scalar(), "minItems": 1 }] })
}

pub(super) fn user(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "integer", "null"], "minLength": 1 })
}
