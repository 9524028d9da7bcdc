//! DescribeConfigs (32): all of a topic, and of this broker what clients look for.

use super::super::connection::FRAME_BYTES_MAX;
use super::super::context::{Context, FETCH_BYTES_MAX};
use super::super::wire::ErrorCode;
use super::super::wire::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
    DescribeConfigsSynonym, Request, Response,
};
use super::super::{Operation, Resource, Session};
use super::produce::MESSAGE_BYTES_DEFAULT;
use super::{once_each, suffix};
use crate::metadata::config::{self, ConfigEntry};

/// Kafka's `ConfigResource.Type`.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// Kafka's `ConfigSource` of what a broker was started with.
const STATIC_BROKER_CONFIG: i8 = 4;

/// Of what nobody set.
const DEFAULT_CONFIG: i8 = 5;

/// Kafka's `ConfigType`s of what is shown here.
const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;
const LIST: i8 = 7;

pub(super) fn handle(context: &Context, session: &Session, request: Request) -> Response {
    let Request { resources, include_synonyms, include_documentation } = request;
    let show = Show { include_synonyms, include_documentation };
    let key = |r: &DescribeConfigsResource| (r.resource_type, r.resource_name.clone());
    let results = once_each(resources, key).map(|resource| {
        let described = describe(context, session, &resource, show);
        let (error_code, error_message, configs) = match described {
            Ok(configs) => (ErrorCode::None, None, configs),
            Err((code, message)) => (code, Some(message), Vec::new()),
        };
        let keys = &resource.configuration_keys;
        let is_wanted = |config: &DescribeConfigsResourceResult| {
            keys.as_ref().is_none_or(|keys| keys.is_empty() || keys.contains(&config.name))
        };
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            configs: configs.into_iter().filter(is_wanted).collect(),
            resource_name: resource.resource_name,
        }
    });
    let results = results.collect();
    Response { throttle_time_ms: session.throttle_time_ms(0), results }
}

#[derive(Clone, Copy)]
struct Show {
    include_synonyms: bool,
    include_documentation: bool,
}

type Described = Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)>;

fn describe(
    context: &Context,
    session: &Session,
    resource: &DescribeConfigsResource,
    show: Show,
) -> Described {
    let name = &resource.resource_name;
    match resource.resource_type {
        TOPIC => {
            if !session.authorize(Operation::DescribeConfigs, Resource::Topic(name)) {
                let message = "DescribeConfigs on the topic is needed".to_owned();
                return Err((ErrorCode::TopicAuthorizationFailed, message));
            }
            let image = context.metadata.image();
            if let Some(topic) = suffix::named(context, &image, name) {
                return match suffix::may(session, Operation::DescribeConfigs, &topic) {
                    true => Ok(suffix_configs(show)),
                    false => {
                        let message = "DescribeConfigs on the topic is needed".to_owned();
                        Err((ErrorCode::TopicAuthorizationFailed, message))
                    }
                };
            }
            let Some(topic) = image.topic(name) else {
                let message = format!("there is no topic {name:?}");
                return Err((ErrorCode::UnknownTopicOrPartition, message));
            };
            Ok(config::describe(&image, topic).into_iter().map(|e| entry(e, show)).collect())
        }
        BROKER => {
            if !session.authorize(Operation::DescribeConfigs, Resource::Cluster) {
                let message = "DescribeConfigs on the cluster is needed".to_owned();
                return Err((ErrorCode::ClusterAuthorizationFailed, message));
            }
            match name.parse::<i32>() {
                Ok(id) if id == context.node.as_i32() => Ok(broker(context)),
                _ => {
                    let node = context.node;
                    let message = format!("this is broker {node}: ask broker {name:?} itself");
                    Err((ErrorCode::InvalidRequest, message))
                }
            }
        }
        other => {
            let message = format!("resource type {other} has no configs here; topics (2) have");
            Err((ErrorCode::InvalidRequest, message))
        }
    }
}

fn entry(entry: ConfigEntry, show: Show) -> DescribeConfigsResourceResult {
    let synonyms = entry.synonyms.into_iter().filter(|_| show.include_synonyms);
    let synonyms = synonyms.map(|synonym| DescribeConfigsSynonym {
        name: synonym.name,
        value: Some(synonym.value),
        source: synonym.source.number(),
    });
    DescribeConfigsResourceResult {
        name: entry.name.to_owned(),
        value: entry.value,
        read_only: entry.is_read_only,
        config_source: entry.source.number(),
        is_sensitive: false,
        synonyms: synonyms.collect(),
        config_type: entry.kind as i8,
        documentation: show.include_documentation.then(|| entry.doc.to_owned()),
    }
}

/// Of what a ledger has: nothing of it goes by age or size, and nothing can be set.
fn suffix_configs(show: Show) -> Vec<DescribeConfigsResourceResult> {
    let doc = "What a ledger has is kept until a person removes it.";
    let entries = ["retention.bytes", "retention.ms"].into_iter();
    let entries = entries.map(|name| DescribeConfigsResourceResult {
        name: name.to_owned(),
        value: Some("-1".to_owned()),
        read_only: true,
        config_source: DEFAULT_CONFIG,
        config_type: LONG,
        documentation: show.include_documentation.then(|| doc.to_owned()),
        ..Default::default()
    });
    entries.collect()
}

/// The few broker configs that clients and tools read; the topology file has the rest.
fn broker(context: &Context) -> Vec<DescribeConfigsResourceResult> {
    let image = context.metadata.image();
    let listeners = image.nodes.get(&context.node).into_iter().flat_map(|node| &node.listeners);
    let advertised: Vec<String> =
        listeners.map(|one| format!("{}://{}:{}", one.name, one.host, one.port)).collect();
    let entries = [
        ("advertised.listeners", advertised.join(","), LIST),
        ("auto.create.topics.enable", context.config.auto_create_topics.to_string(), BOOLEAN),
        ("broker.id", context.node.to_string(), INT),
        ("broker.rack", context.dc.to_string(), STRING),
        ("fetch.max.bytes", FETCH_BYTES_MAX.to_string(), INT),
        ("message.max.bytes", MESSAGE_BYTES_DEFAULT.to_string(), INT),
        ("node.id", context.node.to_string(), INT),
        ("socket.request.max.bytes", FRAME_BYTES_MAX.to_string(), INT),
    ];
    let entries =
        entries.into_iter().map(|(name, value, config_type)| DescribeConfigsResourceResult {
            name: name.to_owned(),
            value: Some(value),
            read_only: true,
            config_source: STATIC_BROKER_CONFIG,
            config_type,
            ..Default::default()
        });
    entries.collect()
}
