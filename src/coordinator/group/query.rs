//! DescribeGroups and ListGroups, and who is led back: what is there, for people.

use super::member::Member;
use super::state::Group;
use super::{
    CommittedOffset, DescribedMember, Description, Error, Id, LedBack, Listing, MemberId, Shard,
    State, TopicPartition, clamp,
};

impl Shard {
    /// # Errors
    /// `GroupIdNotFound`; before version 6 clients hear of a dead group instead.
    pub fn describe(&self, id: &Id) -> Result<Description, Error> {
        self.groups.get(id).map(Group::describe).ok_or(Error::GroupIdNotFound)
    }

    /// All groups, in the order of their ids. Filters by state and type are the handler's.
    pub fn list(&self) -> Vec<Listing> {
        let listing = |group: &Group| Listing {
            group: group.id.clone(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state,
        };
        self.groups.values().map(listing).collect()
    }

    /// What is committed here and `end_of` says lies beyond its leader epoch's end.
    pub fn led_back(
        &self,
        end_of: impl Fn(&TopicPartition, &CommittedOffset) -> Option<i64>,
    ) -> Vec<LedBack> {
        let mut found = Vec::new();
        for group in self.groups.values() {
            for (partition, value) in group.offsets.committed() {
                let committed = value.as_committed();
                let clamped = clamp(committed.offset, end_of(partition, &committed));
                if clamped.was_clamped {
                    let (group, partition) = (group.id.clone(), partition.clone());
                    found.push(LedBack { group, partition, committed, end: clamped.offset });
                }
            }
        }
        found
    }
}

impl Group {
    fn describe(&self) -> Description {
        // While members rejoin, what they say has not been agreed on and nothing is assigned.
        let is_stable = self.state == State::Stable;
        let describe = |(id, member): (&MemberId, &Member)| DescribedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: match is_stable {
                true => member.metadata(self.protocol_name()),
                false => bytes::Bytes::new(),
            },
            assignment: match is_stable {
                true => member.assignment.clone(),
                false => bytes::Bytes::new(),
            },
        };
        let protocol_name = self.protocol_name.clone().filter(|_| is_stable);
        Description {
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: protocol_name.unwrap_or_default(),
            members: self.members.iter().map(describe).collect(),
        }
    }
}
