//! AlterConfigs (33) and IncrementalAlterConfigs (44), of topics. What a broker goes by is in the
//! topology file.

use std::collections::{BTreeMap, BTreeSet};

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::{ErrorCode, alter_configs, incremental_alter_configs};
use super::super::{Operation, Resource, Session};
use super::METADATA_TIMEOUT;
use super::describe_configs::TOPIC;
use crate::metadata::request::{self, AlterConfigs, ConfigChange, ConfigOp};

/// One resource of either request, and what is to become of it.
struct Wanted {
    resource_type: i8,
    resource_name: String,
    change: Result<ConfigChange, String>,
}

type Outcome = Result<(), (ErrorCode, String)>;

pub(super) async fn handle(
    context: &Context,
    session: &Session,
    request: alter_configs::Request,
) -> alter_configs::Response {
    let wanted = request.resources.into_iter().map(|resource| Wanted {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        change: replacement(resource.configs),
    });
    let altered = alter(context, session, wanted.collect(), request.validate_only).await;
    let responses = altered.into_iter().map(|(resource_type, resource_name, outcome)| {
        let (error_code, error_message) = split(outcome);
        alter_configs::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
        }
    });
    let responses = responses.collect();
    alter_configs::Response { throttle_time_ms: session.throttle_time_ms(0), responses }
}

pub(super) async fn handle_incremental(
    context: &Context,
    session: &Session,
    request: incremental_alter_configs::Request,
) -> incremental_alter_configs::Response {
    let wanted = request.resources.into_iter().map(|resource| Wanted {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        change: operations(resource.configs),
    });
    let altered = alter(context, session, wanted.collect(), request.validate_only).await;
    let responses = altered.into_iter().map(|(resource_type, resource_name, outcome)| {
        let (error_code, error_message) = split(outcome);
        incremental_alter_configs::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
        }
    });
    let responses = responses.collect();
    incremental_alter_configs::Response { throttle_time_ms: session.throttle_time_ms(0), responses }
}

fn split(outcome: Outcome) -> (ErrorCode, Option<String>) {
    match outcome {
        Ok(()) => (ErrorCode::None, None),
        Err((code, message)) => (code, Some(message)),
    }
}

fn replacement(configs: Vec<alter_configs::AlterableConfig>) -> Result<ConfigChange, String> {
    let mut values = BTreeMap::new();
    for alter_configs::AlterableConfig { name, value } in configs {
        let value = value.ok_or_else(|| format!("{name} has no value"))?;
        if values.contains_key(&name) {
            return Err(format!("{name} is set twice"));
        }
        values.insert(name, value);
    }
    Ok(ConfigChange::Replace(values))
}

fn operations(
    configs: Vec<incremental_alter_configs::AlterableConfig>,
) -> Result<ConfigChange, String> {
    let mut names = BTreeSet::new();
    let mut operations = Vec::with_capacity(configs.len());
    for config in configs {
        let incremental_alter_configs::AlterableConfig { name: key, config_operation, value } =
            config;
        if !names.insert(key.clone()) {
            return Err(format!("{key} is altered twice"));
        }
        let value = || value.ok_or_else(|| format!("{key} has no value"));
        operations.push(match config_operation {
            0 => ConfigOp::Set { value: value()?, key },
            1 => ConfigOp::Delete { key },
            2 => ConfigOp::Append { value: value()?, key },
            3 => ConfigOp::Subtract { value: value()?, key },
            other => return Err(format!("{key}: there is no operation {other}")),
        });
    }
    Ok(ConfigChange::Incremental(operations))
}

async fn alter(
    context: &Context,
    session: &Session,
    wanted: Vec<Wanted>,
    validate_only: bool,
) -> Vec<(i8, String, Outcome)> {
    let mut results = Vec::with_capacity(wanted.len());
    let mut asked = Vec::new();
    for Wanted { resource_type, resource_name, change } in wanted {
        let outcome = match check(session, resource_type, &resource_name, change) {
            Ok(change) => {
                let topic = resource_name.clone();
                asked.push((results.len(), AlterConfigs { topic, change }));
                Ok(())
            }
            Err(refused) => Err(refused),
        };
        results.push((resource_type, resource_name, outcome));
    }
    let (places, topics): (Vec<usize>, Vec<AlterConfigs>) = asked.into_iter().unzip();
    if topics.is_empty() {
        return results;
    }
    let request = request::Request::AlterConfigs { topics, validate_only };
    match context.metadata.submit(request, METADATA_TIMEOUT).await {
        Ok(request::Response::ConfigsAltered(altered)) => {
            for (place, altered) in places.into_iter().zip(altered) {
                results[place].2 = altered.map_err(|refusal| (refusal.to_code(), refusal.message));
            }
        }
        Ok(other) => panic!("configs were to be altered, not {other:?}"),
        Err(error) => {
            for place in places {
                results[place].2 = Err((error.to_code(), error.to_string()));
            }
        }
    }
    results
}

fn check(
    session: &Session,
    resource_type: i8,
    name: &str,
    change: Result<ConfigChange, String>,
) -> Result<ConfigChange, (ErrorCode, String)> {
    if resource_type != TOPIC {
        let message = "only the configs of topics (2) can be altered; \
                       what a broker goes by is in the topology file";
        return Err((ErrorCode::InvalidRequest, message.to_owned()));
    }
    if !session.authorize(Operation::AlterConfigs, Resource::Topic(name)) {
        let message = "AlterConfigs on the topic is needed".to_owned();
        return Err((ErrorCode::TopicAuthorizationFailed, message));
    }
    change.map_err(|message| (ErrorCode::InvalidRequest, message))
}
