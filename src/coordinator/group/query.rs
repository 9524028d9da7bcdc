//! DescribeGroups and ListGroups: what is there, for people.

use super::member::Member;
use super::state::Group;
use super::{DescribedMember, Description, Error, Id, Listing, MemberId, Shard, State};

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
