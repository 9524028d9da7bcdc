//! What the group coordinator refuses, in Kafka's words.

/// Kafka's error for a request, a member or a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Error {
    #[error("the group metadata record is larger than a record may be")]
    UnknownServerError,
    #[error("the offset metadata is too large")]
    OffsetMetadataTooLarge,
    #[error("the coordinator is loading its state")]
    CoordinatorLoadInProgress,
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    #[error("this is not the group's coordinator")]
    NotCoordinator,
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    #[error("no protocol is supported by all members")]
    InconsistentGroupProtocol,
    #[error("the group id is invalid")]
    InvalidGroupId,
    #[error("the member is unknown in this group")]
    UnknownMemberId,
    #[error("the session timeout is outside the allowed range")]
    InvalidSessionTimeout,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the offset commit does not fit a record batch")]
    InvalidCommitOffsetSize,
    #[error("a name is longer than the record schemas can hold")]
    InvalidRequest,
    #[error("the group still has members")]
    NonEmptyGroup,
    #[error("the group does not exist")]
    GroupIdNotFound,
    #[error("a member id is needed: join again with the one given")]
    MemberIdRequired,
    #[error("the group has as many members as it may have")]
    GroupMaxSizeReached,
    #[error("another member with the same instance id has taken over")]
    FencedInstanceId,
    #[error("the group still subscribes to the topic")]
    GroupSubscribedToTopic,
}

impl Error {
    /// Kafka's number, from its table of protocol error codes.
    pub fn code(self) -> i16 {
        match self {
            Self::UnknownServerError => -1,
            Self::OffsetMetadataTooLarge => 12,
            Self::CoordinatorLoadInProgress => 14,
            Self::CoordinatorNotAvailable => 15,
            Self::NotCoordinator => 16,
            Self::IllegalGeneration => 22,
            Self::InconsistentGroupProtocol => 23,
            Self::InvalidGroupId => 24,
            Self::UnknownMemberId => 25,
            Self::InvalidSessionTimeout => 26,
            Self::RebalanceInProgress => 27,
            Self::InvalidCommitOffsetSize => 28,
            Self::InvalidRequest => 42,
            Self::NonEmptyGroup => 68,
            Self::GroupIdNotFound => 69,
            Self::MemberIdRequired => 79,
            Self::GroupMaxSizeReached => 81,
            Self::FencedInstanceId => 82,
            Self::GroupSubscribedToTopic => 86,
        }
    }
}

/// Why a write to the shard's partition did not commit, as the driver reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The replica leads no longer; what was appended may or may not survive.
    #[error("the replica is not the partition's leader")]
    NotLeader,
    /// Refused before the append, or not committed in time. In the second case the records may
    /// still commit later: they are whole values, so nothing depends on which it was.
    #[error("the records did not commit")]
    Unavailable,
    /// One record alone is larger than a batch may be. Nothing was appended.
    #[error("a record is larger than a batch may be")]
    TooLarge,
}

impl AppendError {
    /// What a client that waited for group metadata hears.
    pub(super) fn for_group(self) -> Error {
        match self {
            Self::NotLeader => Error::NotCoordinator,
            Self::Unavailable => Error::CoordinatorNotAvailable,
            Self::TooLarge => Error::UnknownServerError,
        }
    }

    /// What a client that waited for an offset commit hears.
    pub(super) fn for_offsets(self) -> Error {
        match self {
            Self::NotLeader => Error::NotCoordinator,
            Self::Unavailable => Error::CoordinatorNotAvailable,
            Self::TooLarge => Error::InvalidCommitOffsetSize,
        }
    }
}
