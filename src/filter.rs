//! The jsonb filter dialect.
//!
//! A filter is an object. Every key is a field, all of which must match, or one of `AND`, `OR`,
//! `NOT`. A field's value is an operator object such as `{"gte": 0.5, "lt": 0.9}`, or, for short, a
//! plain value (`eq`; on the lists `tags` and `entities`, `contains`) or an array (`in`; on a list,
//! any of these).
//!
//! Fields are the columns named in [`FIELDS`]; any other key is a metadata key, as is everything
//! after `metadata.`, with dots leading into nested objects.
//!
//! A filter compiles to an SQL condition over `engram.memories m` in which every value, metadata
//! paths included, comes out of one bound jsonb parameter. Every condition is true or false, never
//! NULL, so that `NOT` is the exact complement.

use serde_json::{Map, Value};

use crate::api::shorten;

/// What is wrong with a filter, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Names the part at fault.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

fn error<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError {
        message: message.into(),
        hint: hint.into(),
    })
}

/// The operators.
pub const OPERATORS: [&str; 11] = [
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "in",
    "nin",
    "contains",
    "icontains",
    "exists",
];

/// How a field's values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A number.
    Number,
    /// A point in time, given as text that PostgreSQL reads as timestamptz.
    Time,
    /// true or false.
    Boolean,
    /// A UUID, given as text.
    Uuid,
    /// A list of texts.
    List,
    /// JSON.
    Json,
}

/// Columns that a filter may name, with the SQL that reads them.
pub const FIELDS: [(&str, Kind, &str); 24] = [
    ("id", Kind::Uuid, "m.id"),
    ("user_id", Kind::Uuid, "m.user_id"),
    ("agent_id", Kind::Text, "m.agent_id"),
    ("session_id", Kind::Text, "m.session_id"),
    ("speaker", Kind::Text, "m.speaker"),
    ("role", Kind::Text, "m.role"),
    ("content", Kind::Text, "m.content"),
    ("summary", Kind::Text, "m.summary"),
    ("type", Kind::Text, "m.type"),
    ("importance", Kind::Number, "m.importance"),
    ("layer", Kind::Text, LAYER),
    ("pinned", Kind::Boolean, "m.pinned"),
    ("tags", Kind::List, "m.tags"),
    ("entities", Kind::List, ENTITIES),
    ("metadata", Kind::Json, "m.metadata"),
    ("source", Kind::Text, "m.source"),
    ("occurred_at", Kind::Time, "m.occurred_at"),
    ("valid_from", Kind::Time, "m.valid_from"),
    ("valid_to", Kind::Time, "m.valid_to"),
    ("superseded_by", Kind::Uuid, "m.superseded_by"),
    ("expires_at", Kind::Time, "m.expires_at"),
    ("version", Kind::Number, "m.version"),
    ("created_at", Kind::Time, "m.created_at"),
    ("updated_at", Kind::Time, "m.updated_at"),
];

/// What `list()`, `memory_overview` or the table shows and no filter reads. Taken for keys of metadata, which
/// most rows lack, they would select all or nothing without a word.
const NOT_FIELDS: [&str; 8] = [
    "workspace_id",
    "contradicts",
    "contradicted_by",
    "deleted_at",
    "access_count",
    "last_accessed_at",
    "content_hash",
    "activation",
];

/// Entities compare by their key, so that case does not count: see [`crate::text::entity_node`]. A value
/// that is an alias means its entity.
const ENTITIES: &str = "ARRAY(SELECT g.node FROM engram.graph_links g WHERE g.workspace_id = m.workspace_id AND g.memory_id = m.id AND g.relation = 'mentions')";

/// The layer of this moment, not that of the last consolidation.
const LAYER: &str = "engram_internal.layer_now(m.workspace_id, m.id)";

/// The same of a memory as it was: `engram_internal.memories_as_of()` has both as columns.
const PAST_ENTITIES: &str = "ARRAY(SELECT engram_internal.entity_key(m.workspace_id, l.label) FROM pg_catalog.unnest(m.entities) AS l (label))";
const PAST_LAYER: &str = "m.layer";

const MAX_DEPTH: usize = 32;
const MAX_CONDITIONS: usize = 1000;
const MAX_VALUES: usize = 10_000;

/// A filter, read and checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// All must match; an empty list matches everything.
    And(Vec<Node>),
    /// Any must match; an empty list matches nothing.
    Or(Vec<Node>),
    /// Must not match.
    Not(Box<Node>),
    /// One condition.
    Test {
        /// Which field.
        field: Field,
        /// How it is compared.
        op: Op,
        /// With what.
        value: Value,
    },
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// Index into [`FIELDS`].
    Column(usize),
    /// Path into the metadata.
    Metadata(Vec<String>),
}

/// An operator; `Exists` has true or false as its value, the lists have arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
    In,
    Nin,
    Contains,
    Icontains,
    Exists,
}

impl Op {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "eq" => Self::Eq,
            "ne" => Self::Ne,
            "gt" => Self::Gt,
            "gte" => Self::Gte,
            "lt" => Self::Lt,
            "lte" => Self::Lte,
            "in" => Self::In,
            "nin" => Self::Nin,
            "contains" => Self::Contains,
            "icontains" => Self::Icontains,
            "exists" => Self::Exists,
            _ => return None,
        })
    }

    fn comparison(self) -> &'static str {
        match self {
            Self::Gt => ">",
            Self::Gte => ">=",
            Self::Lt => "<",
            Self::Lte => "<=",
            _ => "=",
        }
    }
}

/// Reads a filter. `null` and `{}` match everything. Values are checked against their fields,
/// times excepted: see [`times`].
pub fn parse(filter: &Value) -> Result<Node, FilterError> {
    let mut budget = MAX_CONDITIONS;
    match filter {
        Value::Null => Ok(Node::And(Vec::new())),
        // A REST client that stringifies its JSON sends the object as one JSON string.
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(inner @ Value::Object(_)) => parse_object(&inner, 0, &mut budget),
            _ => parse_object(filter, 0, &mut budget),
        },
        _ => parse_object(filter, 0, &mut budget),
    }
}

fn parse_object(filter: &Value, depth: usize, budget: &mut usize) -> Result<Node, FilterError> {
    if depth > MAX_DEPTH {
        return error(
            format!("the filter is nested deeper than {MAX_DEPTH}"),
            "Flatten it: AND inside AND and OR inside OR can be one list.",
        );
    }
    let Value::Object(map) = filter else {
        return error(
            format!(
                "a filter must be an object, not {}",
                shorten(&filter.to_string())
            ),
            r#"For example {"type": "factual", "importance": {"gte": 0.5}}."#,
        );
    };
    let mut nodes = Vec::with_capacity(map.len());
    for (key, value) in map {
        nodes.push(match key.to_ascii_uppercase().as_str() {
            "AND" => Node::And(parse_list(key, value, depth, budget)?),
            "OR" => Node::Or(parse_list(key, value, depth, budget)?),
            "NOT" if value.is_array() => {
                Node::Not(Box::new(Node::Or(parse_list(key, value, depth, budget)?)))
            }
            "NOT" => Node::Not(Box::new(parse_object(value, depth + 1, budget)?)),
            _ => parse_field(key, value, budget)?,
        });
    }
    Ok(match nodes.len() {
        1 => nodes.swap_remove(0),
        _ => Node::And(nodes),
    })
}

fn parse_list(
    key: &str,
    value: &Value,
    depth: usize,
    budget: &mut usize,
) -> Result<Vec<Node>, FilterError> {
    let Value::Array(items) = value else {
        return error(
            format!(
                "filter key {key:?} needs an array of filters, not {}",
                shorten(&value.to_string())
            ),
            format!(r#"For example {{"{key}": [{{"type": "factual"}}, {{"pinned": true}}]}}."#),
        );
    };
    items
        .iter()
        .map(|item| parse_object(item, depth + 1, budget))
        .collect()
}

fn parse_field(key: &str, value: &Value, budget: &mut usize) -> Result<Node, FilterError> {
    // As messages name it.
    let shown = &*shorten(key);
    let field = match FIELDS.iter().position(|(name, ..)| *name == key) {
        Some(index) => Field::Column(index),
        None if NOT_FIELDS.contains(&key) => {
            return error(
                format!("filter key {key:?} is nothing that a filter compares"),
                format!(
                    "{}A key of metadata with this name is written {:?}.",
                    match key {
                        "deleted_at" =>
                            "Forgotten memories come with include => ARRAY['forgotten'] in engram.list(). ",
                        "workspace_id" => "Pass the workspace as the argument workspace. ",
                        _ => "",
                    },
                    format!("metadata.{key}")
                ),
            );
        }
        None => {
            let path: Vec<String> = key
                .strip_prefix("metadata.")
                .unwrap_or(key)
                .split('.')
                .map(str::to_owned)
                .collect();
            if path.iter().any(String::is_empty) {
                return error(
                    format!("filter key {shown:?} has an empty part"),
                    "Write metadata.project, or metadata.owner.name for nested objects.",
                );
            }
            Field::Metadata(path)
        }
    };
    let tests: Vec<(Op, &Value)> = match value {
        Value::Object(ops) => operators(shown, ops)?,
        Value::Array(_) => vec![(Op::In, value)],
        // One word for a list means that it is among them.
        Value::String(_) if is_list(&field) => vec![(Op::Contains, value)],
        _ => vec![(Op::Eq, value)],
    };
    let mut nodes = Vec::with_capacity(tests.len());
    for (op, value) in tests {
        *budget = budget.checked_sub(1).ok_or_else(|| FilterError {
            message: format!("the filter has more than {MAX_CONDITIONS} conditions"),
            hint: r#"Use "in" with a list instead of many "eq"."#.to_owned(),
        })?;
        let value = check(shown, &field, op, value)?;
        nodes.push(Node::Test {
            field: field.clone(),
            op,
            value,
        });
    }
    Ok(match nodes.len() {
        1 => nodes.swap_remove(0),
        _ => Node::And(nodes),
    })
}

fn is_list(field: &Field) -> bool {
    matches!(field, Field::Column(i) if FIELDS[*i].1 == Kind::List)
}

fn operators<'a>(
    key: &str,
    ops: &'a Map<String, Value>,
) -> Result<Vec<(Op, &'a Value)>, FilterError> {
    if ops.is_empty() {
        return error(
            format!("filter key {key:?} has an empty operator object"),
            format!("Operators: {}.", OPERATORS.join(", ")),
        );
    }
    ops.iter()
        .map(|(name, value)| match Op::parse(name) {
            Some(op) => Ok((op, value)),
            None => error(
                format!("unknown filter operator {:?} on {key:?}", shorten(name)),
                format!(
                    r#"Operators: {}. To compare with an object, write {{"eq": {{…}}}}; for a nested key, {:?}."#,
                    OPERATORS.join(", "),
                    format!("{key}.{}", shorten(name))
                ),
            ),
        })
        .collect()
}

/// A value, and what it is compared with.
struct Compared<'a> {
    key: &'a str,
    kind: Kind,
    /// The field holds names of entities.
    entity: bool,
    op: Op,
    value: &'a Value,
}

impl Compared<'_> {
    fn bad(&self, wanted: &str) -> Result<Value, FilterError> {
        let Self { key, kind, op, .. } = *self;
        let name = OPERATORS[op as usize];
        error(
            format!(
                "filter {key:?}: {name:?} needs {wanted}, not {}",
                shorten(&self.value.to_string())
            ),
            format!(
                r#"For example {{"{key}": {{"{name}": {}}}}}."#,
                example(kind, op)
            ),
        )
    }

    /// As one value of the field.
    fn one(&self, wanted: &str) -> Result<Value, FilterError> {
        scalar(self.kind, self.entity, self.value).map_or_else(|| self.bad(wanted), Ok)
    }

    /// As several.
    fn list(&self) -> Result<Value, FilterError> {
        let Self { key, kind, .. } = *self;
        let Value::Array(items) = self.value else {
            return self.bad("an array");
        };
        if items.len() > MAX_VALUES {
            return error(
                format!(
                    "filter {key:?} lists {} values, the limit is {MAX_VALUES}",
                    items.len()
                ),
                "Split the call, or put what the values have in common into metadata.",
            );
        }
        items
            .iter()
            .map(|item| match scalar(kind, self.entity, item) {
                Some(item) => Ok(item),
                None if item.is_null() => error(
                    format!("filter {key:?}: {:?} lists a null", OPERATORS[self.op as usize]),
                    format!(r#"To find rows without it, write {{"OR": [{{"{key}": [...]}}, {{"{key}": null}}]}}."#),
                ),
                None => self.bad(wanted(kind)),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array)
    }
}

/// Checks a value against its field and operator and brings it to the form that SQL compares.
fn check(key: &str, field: &Field, op: Op, value: &Value) -> Result<Value, FilterError> {
    let kind = match field {
        Field::Column(index) => FIELDS[*index].1,
        Field::Metadata(_) => Kind::Json,
    };
    let compared = Compared {
        key,
        kind,
        entity: matches!(field, Field::Column(i) if FIELDS[*i].0 == "entities"),
        op,
        value,
    };
    match op {
        Op::Exists => match value {
            Value::Bool(_) => Ok(value.clone()),
            _ => compared.bad("true or false"),
        },
        Op::In | Op::Nin => compared.list(),
        Op::Gt | Op::Gte | Op::Lt | Op::Lte => match kind {
            Kind::List | Kind::Boolean | Kind::Uuid => error(
                format!(
                    "filter {key:?} has no order to compare by {:?}",
                    OPERATORS[op as usize]
                ),
                "Use eq, ne, in, nin, contains or exists.",
            ),
            Kind::Json if !(value.is_number() || value.is_string()) => {
                compared.bad("a number or a text")
            }
            _ => compared.one(wanted(kind)),
        },
        Op::Contains | Op::Icontains => match kind {
            Kind::Text if value.is_string() => Ok(value.clone()),
            Kind::Text => compared.bad("a text"),
            Kind::List if value.is_array() && op == Op::Contains => compared.list(),
            Kind::List => compared.one("a text"),
            Kind::Json if op == Op::Icontains && !value.is_string() => compared.bad("a text"),
            Kind::Json => Ok(value.clone()),
            _ => error(
                format!(
                    "filter {key:?} is neither text nor list, so {:?} does not apply",
                    OPERATORS[op as usize]
                ),
                "Use eq, in, or gte and lt.",
            ),
        },
        Op::Eq | Op::Ne => match (kind, value) {
            (Kind::Json, _) => Ok(value.clone()),
            (_, Value::Null) => Ok(Value::Null),
            (Kind::List, Value::Array(_)) => compared.list(),
            (Kind::List, _) => compared.bad("an array"),
            _ => compared.one(wanted(kind)),
        },
    }
}

fn scalar(kind: Kind, entity: bool, value: &Value) -> Option<Value> {
    match (kind, value) {
        (Kind::Text | Kind::Time, Value::String(_)) | (Kind::Boolean, Value::Bool(_)) => {
            Some(value.clone())
        }
        (Kind::List, Value::String(s)) if entity => Some(crate::text::entity_node(s).into()),
        (Kind::List, Value::String(_)) => Some(value.clone()),
        (Kind::Number, Value::Number(n)) => n.as_f64().filter(|n| n.is_finite()).map(Value::from),
        (Kind::Uuid, Value::String(s)) => uuid::Uuid::try_parse(s)
            .ok()
            .map(|id| Value::from(id.to_string())),
        (Kind::Json, _) => Some(value.clone()),
        _ => None,
    }
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::List => "a text",
        Kind::Number => "a number",
        Kind::Time => "a timestamp",
        Kind::Boolean => "true or false",
        Kind::Uuid => "a UUID",
        Kind::Json => "a JSON value",
    }
}

fn example(kind: Kind, op: Op) -> String {
    let one = match kind {
        Kind::Text | Kind::List | Kind::Json => r#""apollo""#,
        Kind::Number => "0.5",
        Kind::Time => r#""2026-01-31T09:00:00Z""#,
        Kind::Boolean => "true",
        Kind::Uuid => r#""018f3a2e-0000-7000-8000-000000000000""#,
    };
    match op {
        Op::In | Op::Nin => format!("[{one}]"),
        Op::Eq | Op::Ne if kind == Kind::List => format!("[{one}]"),
        Op::Exists => "true".to_owned(),
        _ => one.to_owned(),
    }
}

/// All timestamps in a filter, for the caller to check: only PostgreSQL knows what it reads.
pub fn times(node: &Node) -> Vec<String> {
    let mut out = Vec::new();
    visit(node, &mut |field, value| {
        if matches!(field, Field::Column(i) if FIELDS[*i].1 == Kind::Time) {
            match value {
                Value::String(s) => out.push(s.clone()),
                Value::Array(items) => {
                    out.extend(items.iter().filter_map(Value::as_str).map(str::to_owned));
                }
                _ => {}
            }
        }
    });
    out
}

fn visit(node: &Node, f: &mut impl FnMut(&Field, &Value)) {
    match node {
        Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|n| visit(n, f)),
        Node::Not(node) => visit(node, f),
        Node::Test { field, value, .. } => f(field, value),
    }
}

/// The condition of a filter that asks for nothing.
pub const NO_CONDITION: &str = "true";

/// A condition and the values it takes from its parameter, an array.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// SQL over `engram.memories m`; refers to its parameter as `$1`.
    pub condition: String,
    /// The value of that parameter.
    pub params: Vec<Value>,
}

impl Compiled {
    /// The same over `engram_internal.memories_as_of() m`.
    pub fn past(mut self) -> Self {
        self.condition = self
            .condition
            .replace(ENTITIES, PAST_ENTITIES)
            .replace(LAYER, PAST_LAYER);
        self
    }
}

/// Compiles a filter. Only constant text of this module enters the SQL.
pub fn compile(node: &Node) -> Compiled {
    let mut params = Vec::new();
    let condition = sql(node, &mut params);
    Compiled { condition, params }
}

fn sql(node: &Node, params: &mut Vec<Value>) -> String {
    let join = |nodes: &[Node], params: &mut Vec<Value>, op: &str, empty: &str| {
        let parts: Vec<String> = nodes.iter().map(|n| sql(n, params)).collect();
        match parts.len() {
            0 => empty.to_owned(),
            _ => format!("({})", parts.join(op)),
        }
    };
    match node {
        Node::And(nodes) => join(nodes, params, " AND ", NO_CONDITION),
        Node::Or(nodes) => join(nodes, params, " OR ", "false"),
        Node::Not(node) => format!("NOT {}", sql(node, params)),
        Node::Test { field, op, value } => {
            let mut bind = |value: Value| {
                params.push(value);
                params.len() - 1
            };
            match field {
                Field::Column(index) => {
                    let (_, kind, column) = FIELDS[*index];
                    match kind {
                        Kind::Json => json_sql(column, *op, bind(value.clone())),
                        Kind::List => list_sql(column, *op, value, bind(value.clone())),
                        _ => column_sql(column, kind, *op, value, bind(value.clone())),
                    }
                }
                Field::Metadata(path) => {
                    let at = bind(path.iter().cloned().map(Value::String).collect());
                    let column = format!(
                        "(m.metadata #> ARRAY(SELECT jsonb_array_elements_text($1->{at})))"
                    );
                    json_sql(&column, *op, bind(value.clone()))
                }
            }
        }
    }
}

fn cast(kind: Kind) -> &'static str {
    match kind {
        Kind::Number => "float8",
        Kind::Time => "timestamptz",
        Kind::Boolean => "boolean",
        Kind::Uuid => "uuid",
        _ => "text",
    }
}

fn column_sql(column: &str, kind: Kind, op: Op, value: &Value, at: usize) -> String {
    let ty = cast(kind);
    let one = format!("($1->>{at})::{ty}");
    let many = format!("ARRAY(SELECT jsonb_array_elements_text($1->{at})::{ty})");
    match op {
        Op::Exists => exists_sql(column, value),
        Op::Eq if value.is_null() => format!("({column} IS NULL)"),
        Op::Ne if value.is_null() => format!("({column} IS NOT NULL)"),
        Op::Ne => format!("({column} IS DISTINCT FROM {one})"),
        Op::In => format!("coalesce({column} = ANY ({many}), false)"),
        Op::Nin => format!("NOT coalesce({column} = ANY ({many}), false)"),
        Op::Contains => format!("coalesce(strpos({column}, {one}) > 0, false)"),
        Op::Icontains => format!("coalesce(strpos(lower({column}), lower({one})) > 0, false)"),
        Op::Gt | Op::Gte | Op::Lt | Op::Lte if kind == Kind::Text => format!(
            "coalesce({column} COLLATE \"C\" {} {one}, false)",
            op.comparison()
        ),
        Op::Eq | Op::Gt | Op::Gte | Op::Lt | Op::Lte => {
            format!("coalesce({column} {} {one}, false)", op.comparison())
        }
    }
}

fn exists_sql(column: &str, value: &Value) -> String {
    let not = if value == &Value::Bool(true) {
        "NOT "
    } else {
        ""
    };
    format!("({column} IS {not}NULL)")
}

fn list_sql(column: &str, op: Op, value: &Value, at: usize) -> String {
    let mut many = format!("ARRAY(SELECT jsonb_array_elements_text($1->{at}))");
    let mut one = format!("($1->>{at})");
    if column == ENTITIES && op != Op::Icontains {
        let meant = |name: &str| {
            format!(
                "coalesce((SELECT a.node FROM engram.entity_aliases a \
                 WHERE a.workspace_id = m.workspace_id AND a.alias = {name}), {name})"
            )
        };
        many = format!(
            "ARRAY(SELECT {} FROM jsonb_array_elements_text($1->{at}) AS n (name))",
            meant("n.name")
        );
        one = meant(&one);
    }
    match op {
        Op::Exists if value == &Value::Bool(true) => format!("(cardinality({column}) > 0)"),
        Op::Exists => format!("(cardinality({column}) = 0)"),
        Op::Eq if value.is_null() => format!("(cardinality({column}) = 0)"),
        Op::Ne if value.is_null() => format!("(cardinality({column}) > 0)"),
        // Lists are sets here: order and repetition do not count.
        Op::Eq => format!("({column} @> {many} AND {column} <@ {many})"),
        Op::Ne => format!("NOT ({column} @> {many} AND {column} <@ {many})"),
        Op::In => format!("({column} && {many})"),
        Op::Nin => format!("NOT ({column} && {many})"),
        Op::Contains if value.is_array() => format!("({column} @> {many})"),
        Op::Contains => format!("({one} = ANY ({column}))"),
        _ => format!(
            "EXISTS (SELECT FROM unnest({column}) e WHERE strpos(lower(e), lower({one})) > 0)"
        ),
    }
}

fn json_sql(column: &str, op: Op, at: usize) -> String {
    let one = format!("($1->{at})");
    let text = format!("($1->>{at})");
    match op {
        // A key that is absent counts as null.
        Op::Eq => format!("(coalesce({column}, 'null') = {one})"),
        Op::Ne => format!("(coalesce({column}, 'null') <> {one})"),
        Op::In => format!(
            "EXISTS (SELECT FROM jsonb_array_elements({one}) e WHERE e = coalesce({column}, 'null'))"
        ),
        Op::Nin => format!(
            "NOT EXISTS (SELECT FROM jsonb_array_elements({one}) e WHERE e = coalesce({column}, 'null'))"
        ),
        Op::Exists => format!("(({column} IS NOT NULL) = ({one})::boolean)"),
        // Numbers with numbers, texts with texts; anything else is not comparable. Texts compare
        // by code point, whatever the database's collation.
        Op::Gt | Op::Gte | Op::Lt | Op::Lte => format!(
            "CASE WHEN jsonb_typeof({column}) IS DISTINCT FROM jsonb_typeof({one}) THEN false \
             WHEN jsonb_typeof({one}) = 'string' THEN ({column} #>> '{{}}') COLLATE \"C\" {cmp} {text} \
             ELSE {column} {cmp} {one} END",
            cmp = op.comparison()
        ),
        Op::Contains => format!(
            "CASE jsonb_typeof({column}) \
             WHEN 'string' THEN jsonb_typeof({one}) = 'string' AND strpos({column} #>> '{{}}', {text}) > 0 \
             WHEN 'array' THEN CASE WHEN jsonb_typeof({one}) = 'array' THEN {column} @> {one} \
               ELSE EXISTS (SELECT FROM jsonb_array_elements({column}) e WHERE e = {one}) END \
             WHEN 'object' THEN jsonb_typeof({one}) = 'object' AND {column} @> {one} \
             ELSE false END"
        ),
        Op::Icontains => format!(
            "CASE jsonb_typeof({column}) \
             WHEN 'string' THEN strpos(lower({column} #>> '{{}}'), lower({text})) > 0 \
             WHEN 'array' THEN EXISTS (SELECT FROM jsonb_array_elements({column}) e \
               WHERE jsonb_typeof(e) = 'string' AND strpos(lower(e #>> '{{}}'), lower({text})) > 0) \
             ELSE false END"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn fail(filter: Value) -> FilterError {
        parse(&filter).unwrap_err()
    }

    #[test]
    fn shorthand_is_eq_and_in() {
        assert_eq!(
            parse(&json!({"type": "factual"})),
            parse(&json!({"type": {"eq": "factual"}}))
        );
        assert_eq!(
            parse(&json!({"type": ["a", "b"]})),
            parse(&json!({"type": {"in": ["a", "b"]}}))
        );
        assert_eq!(
            parse(&json!({"project": "x"})),
            parse(&json!({"metadata.project": {"eq": "x"}}))
        );
        assert_eq!(
            parse(&json!("{\"type\":\"factual\"}")),
            parse(&json!({"type": "factual"}))
        );
        assert_eq!(parse(&Value::Null).unwrap(), Node::And(vec![]));
    }

    #[test]
    fn errors_name_the_part_and_the_way_out() {
        // None repeats a value or key of any length.
        let long = "x".repeat(1000);
        for filter in [
            serde_json::from_str(r#"{"importance": {"lt": 1e400}}"#).unwrap(),
            json!({"importance": long}),
            json!({"id": [long]}),
            json!({"OR": long}),
            json!({"importance": {long.clone(): 1}}),
            json!({format!("{long}.."): 1}),
            json!({long.clone(): {"in": 1}}),
            json!({long.clone(): {}}),
            json!([long]),
        ] {
            let e = fail(filter);
            assert!(e.message.len() < 200 && e.hint.len() < 400, "{e:?}");
        }
        let e = fail(json!({"deleted_at": null}));
        assert!(e.message.contains("\"deleted_at\"") && e.hint.contains("forgotten"));
        assert!(e.hint.contains("\"metadata.deleted_at\""));
        assert!(parse(&json!({"metadata.deleted_at": null})).is_ok());
        let e = fail(json!({"speaker": {"in": ["Bob", null]}}));
        assert!(e.message.contains("null") && e.hint.contains("OR"));
        let e = fail(json!({"importance": {"above": 3}}));
        assert!(e.message.contains("\"above\"") && e.hint.contains("gte"));
        assert!(
            fail(json!({"importance": {"gte": "high"}}))
                .message
                .contains("\"high\"")
        );
        assert!(
            fail(json!({"pinned": {"gt": true}}))
                .message
                .contains("no order")
        );
        assert!(fail(json!({"id": "seven"})).message.contains("a UUID"));
        assert!(
            fail(json!({"OR": {"a": 1}}))
                .message
                .contains("array of filters")
        );
        assert!(fail(json!([1])).message.contains("must be an object"));
        assert!(fail(json!({"tags": {"eq": "x"}})).hint.contains("["));
        assert!(fail(json!({"a..b": 1})).message.contains("empty part"));
        let mut deep = json!({"type": "factual"});
        for _ in 0..40 {
            deep = json!({"NOT": deep});
        }
        assert!(fail(deep).message.contains("nested"));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(
                    prop_oneof![
                        Just("AND".to_owned()),
                        Just("OR".to_owned()),
                        Just("NOT".to_owned()),
                        Just("type".to_owned()),
                        Just("tags".to_owned()),
                        Just("eq".to_owned()),
                        Just("in".to_owned()),
                        "\\PC{1,8}".boxed(),
                    ],
                    inner,
                    0..4,
                )
                .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_value_ever_enters_the_sql(filter in any_value(), evil in "['\"$;\\\\]{1,4}[a-z]{3}") {
            // Whatever the filter says, the SQL is made of this module's own characters.
            for filter in [filter, json!({evil.clone(): evil.clone(), "content": {"contains": evil}})] {
                if let Ok(node) = parse(&filter) {
                    let compiled = compile(&node);
                    let plain = compiled.condition.replace("'null'", "").replace("'{}'", "")
                        .replace("'string'", "").replace("'array'", "").replace("'object'", "")
                        .replace("'mentions'", "").replace("COLLATE \"C\"", "").replace("$1->", "");
                    prop_assert!(!plain.contains(['\'', '"', '$', ';', '\\']), "{}", plain);
                }
            }
        }
    }
}
