//! From records back to groups, and from groups to the fewest records that say the same.

use bytes::Bytes;

use super::member::Member;
use super::record::{self, GroupValue, Key, OffsetValue, RecordError};
use super::state::Group;
use super::timers::Timer;
use super::{Id, InstanceId, MemberId, Now, Record, Shard, State};

impl Shard {
    /// Takes the next committed record of the shard's partition, in the order of the log, before
    /// anything else is asked of the shard. `false`: a record of a type that is passed over.
    ///
    /// # Errors
    /// The record is not what Kafka's schemas allow. The state is then incomplete and must not
    /// serve.
    pub fn load(&mut self, record: Record) -> Result<bool, RecordError> {
        match record::decode_key(record.key)? {
            Key::Offset { group, partition } => match record.value {
                Some(value) => {
                    let value = OffsetValue::decode(value)?;
                    let state = self.group_to_load(&group);
                    let (grown, shrunk) = state.offsets.commit(partition, value);
                    self.cx.state_bytes += grown;
                    self.cx.state_bytes -= shrunk;
                }
                None => {
                    if let Some(state) = self.groups.get_mut(&group) {
                        self.cx.state_bytes -= state.offsets.remove(&partition);
                    }
                    self.forget_if_vacant(&group);
                }
            },
            Key::Group(group) => self.load_group(group, record.value)?,
            Key::Other(_) => return Ok(false),
        }
        Ok(true)
    }

    fn group_to_load(&mut self, id: &Id) -> &mut Group {
        self.groups.entry(id.clone()).or_insert_with(|| Group::new(id.clone()))
    }

    fn load_group(&mut self, id: Id, stored: Option<Bytes>) -> Result<(), RecordError> {
        // A copy, so that it does not keep alive all that was read with it.
        let stored = stored.map(|s| Bytes::copy_from_slice(&s));
        let value = stored.clone().map(GroupValue::decode).transpose()?;
        self.group_to_load(&id);
        let group = self.groups.get_mut(&id).expect("just made");
        let sizes = |group: &Group| group.members.values().map(Member::size_bytes).sum::<usize>();
        self.cx.state_bytes -= sizes(group);
        group.restore(value);
        self.cx.state_bytes += sizes(group);
        group.set_stored(&mut self.cx, stored);
        self.forget_if_vacant(&id);
        Ok(())
    }

    /// All records are loaded and the shard begins to serve. Members have a full session to be
    /// heard of: they could not reach anybody meanwhile.
    pub fn handle_loaded(&mut self, now: Now) {
        for group in self.groups.values_mut() {
            let ids: Vec<MemberId> = group.members.keys().cloned().collect();
            for id in ids {
                group.restart_session(&mut self.cx, now, &id);
            }
            // The limit was lowered: all rejoin, and not all find a place.
            if group.members.len() > self.cx.config.group_size_max {
                group.rebalance(&mut self.cx, now);
            }
        }
        let first = now.monotonic + self.cx.config.offsets_retention_check_interval;
        self.cx.timers.set(Timer::Expiry, first);
    }

    /// The committed state as records: what a shard that loads them knows is what this one would
    /// know had it loaded its whole log.
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for group in self.groups.values() {
            if let Some(stored) = &group.stored {
                let key = record::group_key(&group.id);
                records.push(Record { key, value: Some(stored.clone()) });
            }
            for (partition, value) in group.offsets.committed() {
                let key = record::offset_key(&group.id, partition);
                records.push(Record { key, value: Some(value.encode()) });
            }
        }
        records
    }
}

impl Group {
    /// As the log has it; `None` is a tombstone.
    fn restore(&mut self, value: Option<GroupValue>) {
        self.members.clear();
        self.static_members.clear();
        let Some(value) = value else {
            let offsets = std::mem::take(&mut self.offsets);
            let stored = self.stored.take();
            *self = Self { offsets, stored, ..Self::new(self.id.clone()) };
            return;
        };
        self.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        self.state_since_ms = value.state_timestamp_ms;
        self.generation = value.generation;
        self.protocol_type = Some(value.protocol_type).filter(|t| !t.is_empty());
        self.protocol_name = value.protocol_name;
        self.leader = value.leader;
        for member in value.members {
            let (id, member) = Member::restore(member, self.protocol_name.as_deref());
            if let Some(instance) = &member.instance_id {
                let instance: InstanceId = instance.clone();
                self.static_members.insert(instance, id.clone());
            }
            self.members.insert(id, member);
        }
    }
}
