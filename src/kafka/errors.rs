//! The one map from our errors to Kafka's codes. No arm is a wildcard: a new error has to be
//! given its code here before anything compiles.

use super::wire::ErrorCode;
use crate::coordinator::group;
use crate::log;
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::service;
use crate::model::batch;
use crate::replica::{ProduceError, ReadError};

/// What a client is told.
pub trait ToCode {
    fn to_code(&self) -> ErrorCode;
}

impl ToCode for ProduceError {
    fn to_code(&self) -> ErrorCode {
        match self {
            Self::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            // Clients look for the new leader, and an idempotent retry is recognised there.
            Self::NotLeader | Self::LeaderNotReady | Self::ShuttingDown => {
                ErrorCode::NotLeaderOrFollower
            }
            // A fenced home refuses before it appends, and so does one at the end of its budget. What
            // comes after a lossy cut is to be offered again, in order: every client does with this one.
            Self::NotEnoughReplicas
            | Self::OverBudget { .. }
            | Self::Fenced
            | Self::AfterLoss { .. } => ErrorCode::NotEnoughReplicas,
            // Java's producer makes smaller batches of it and sends those.
            Self::LargerThanBudget => ErrorCode::MessageTooLarge,
            Self::NotEnoughReplicasAfterAppend => ErrorCode::NotEnoughReplicasAfterAppend,
            Self::TimedOut | Self::Busy => ErrorCode::RequestTimedOut,
            Self::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            Self::UnknownProducer(_) => ErrorCode::UnknownProducerId,
            Self::DiskFull => ErrorCode::KafkaStorageError,
        }
    }
}

impl ToCode for ReadError {
    fn to_code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Log(error) => error.to_code(),
        }
    }
}

impl ToCode for log::Error {
    fn to_code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            // The replica went away while it was read.
            Self::UnknownPartition(_) | Self::Removed(_) => ErrorCode::NotLeaderOrFollower,
            // Its partition is moving to another home, where it may be read again.
            Self::Promised { .. }
            | Self::NotSealed { .. }
            | Self::Damaged { .. }
            | Self::Fork { .. }
            | Self::NothingInCommon { .. }
            | Self::NotCut { .. }
            | Self::NotOfFork { .. }
            | Self::Discontinuity { .. } => ErrorCode::NotLeaderOrFollower,
            Self::OutOfSpace(_)
            | Self::Io { .. }
            | Self::Locked { .. }
            | Self::OtherNode { .. }
            | Self::OtherCluster { .. }
            | Self::Malformed { .. }
            | Self::Version { .. }
            | Self::JournalCorrupt { .. }
            | Self::JournalMissing { .. }
            | Self::Orphan { .. }
            | Self::Exists(_)
            | Self::UnknownTopic { .. }
            | Self::Compacted { .. }
            | Self::Unavailable { .. }
            | Self::Corrupt { .. }
            | Self::Poisoned { .. } => ErrorCode::KafkaStorageError,
        }
    }
}

impl ToCode for batch::Error {
    fn to_code(&self) -> ErrorCode {
        match self {
            // What a damaged connection does; sending it again may help.
            Self::Short(_) | Self::Length(..) | Self::Crc { .. } => ErrorCode::CorruptMessage,
            Self::Magic(_) | Self::Count { .. } | Self::Producer { .. } => ErrorCode::InvalidRecord,
            Self::Codec(_) => ErrorCode::UnsupportedCompressionType,
        }
    }
}

impl ToCode for Reason {
    fn to_code(&self) -> ErrorCode {
        match self {
            Self::Unknown => ErrorCode::UnknownServerError,
            Self::TopicExists => ErrorCode::TopicAlreadyExists,
            Self::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
            Self::InvalidTopicName => ErrorCode::InvalidTopicException,
            Self::InvalidPartitions => ErrorCode::InvalidPartitions,
            Self::InvalidReplicationFactor => ErrorCode::InvalidReplicationFactor,
            Self::InvalidReplicaAssignment => ErrorCode::InvalidReplicaAssignment,
            Self::InvalidConfig => ErrorCode::InvalidConfig,
            Self::InternalTopic => ErrorCode::InvalidTopicException,
            Self::InvalidRequest
            | Self::UnknownNode
            | Self::InvalidTopology
            | Self::DiskReplaced
            | Self::MajorityLost => ErrorCode::InvalidRequest,
            Self::NotBuilt | Self::FeatureLevel => ErrorCode::UnsupportedVersion,
            // Retriable: the next attempt decides on what is true then.
            Self::Stale | Self::NotReady => ErrorCode::NotController,
            Self::LimitExceeded => ErrorCode::PolicyViolation,
        }
    }
}

impl ToCode for Refusal {
    fn to_code(&self) -> ErrorCode {
        self.reason.to_code()
    }
}

impl ToCode for service::Error {
    fn to_code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.to_code(),
            // Nothing was done; clients look for the controller and ask again.
            Self::NoLeader | Self::Busy | Self::ShuttingDown => ErrorCode::NotController,
            // As in Kafka: it may have been done, and whoever asks again may be told that it was.
            Self::Unknown | Self::Behind => ErrorCode::RequestTimedOut,
            Self::Wire(_) => ErrorCode::UnknownServerError,
        }
    }
}

impl ToCode for group::Error {
    fn to_code(&self) -> ErrorCode {
        match self {
            Self::UnknownServerError => ErrorCode::UnknownServerError,
            Self::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
            Self::CoordinatorLoadInProgress => ErrorCode::CoordinatorLoadInProgress,
            Self::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::UnknownMemberId => ErrorCode::UnknownMemberId,
            Self::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            Self::InvalidCommitOffsetSize => ErrorCode::InvalidCommitOffsetSize,
            Self::InvalidRequest => ErrorCode::InvalidRequest,
            Self::NonEmptyGroup => ErrorCode::NonEmptyGroup,
            Self::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            Self::MemberIdRequired => ErrorCode::MemberIdRequired,
            Self::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
            Self::FencedInstanceId => ErrorCode::FencedInstanceId,
            Self::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_retriable_to_clients() {
        let passing = [
            ProduceError::NotLeader,
            ProduceError::LeaderNotReady,
            ProduceError::ShuttingDown,
            ProduceError::NotEnoughReplicas,
            ProduceError::OverBudget { pause: std::time::Duration::ZERO },
            ProduceError::NotEnoughReplicasAfterAppend,
            ProduceError::Fenced,
            ProduceError::TimedOut,
            ProduceError::Busy,
            ProduceError::DiskFull,
        ];
        for error in passing {
            assert!(error.to_code().is_retriable(), "{error}");
        }
        for error in [service::Error::NoLeader, service::Error::Busy, service::Error::Behind] {
            assert!(error.to_code().is_retriable(), "{error}");
        }
        for reason in [Reason::Stale, Reason::NotReady] {
            assert!(reason.to_code().is_retriable(), "{reason:?}");
        }
    }

    #[test]
    fn what_a_producer_did_wrong_is_not_retriable() {
        let wrong = [
            ProduceError::OutOfOrderSequence { expected: 1, found: 3 },
            ProduceError::InvalidProducerEpoch { known: 2 },
            ProduceError::UnknownProducer(9),
            ProduceError::LargerThanBudget,
        ];
        for error in wrong {
            assert!(!error.to_code().is_retriable(), "{error}");
        }
    }
}
