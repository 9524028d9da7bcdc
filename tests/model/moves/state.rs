//! The register, the replicas, and what each coordinator has seen.

/// The home, which stands for a majority of its voters; then B's three.
pub const A: usize = 0;
pub const REPLICAS: usize = 4;
pub const MAJORITY: usize = 2;

/// A coordinator begins once; that a third takes over from the second adds nothing.
pub const COORDINATORS: usize = 2;

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

impl Side {
    pub fn replicas(self) -> std::ops::Range<usize> {
        match self {
            Self::A => A..A + 1,
            Self::B => A + 1..REPLICAS,
        }
    }

    /// How many of its replicas are a majority.
    pub fn majority(self) -> usize {
        match self {
            Self::A => 1,
            Self::B => MAJORITY,
        }
    }
}

pub fn name(at: usize) -> String {
    if at == A { "A".to_owned() } else { format!("B's replica {at}") }
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Choice {
    pub attempt: u8,
    pub cut: u8,
    pub target: Side,
    /// What the cut was made of proves that nothing acknowledged is beyond it.
    pub proven: bool,
}

#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Active,
    Sealing,
    Chosen(Choice),
    Moved(Choice),
}

#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replica {
    pub len: u8,
    pub promised: bool,
    /// The newest order to cut that it has followed.
    pub attempt: u8,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Coordinator {
    /// The register as it last saw it, which its next compare-and-set names.
    pub seen: Phase,
    pub reports: [Option<u8>; REPLICAS],
    pub choice: Option<Choice>,
    /// Who has confirmed the choice, one bit each.
    pub held: u8,
}

#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub struct State {
    pub phase: Phase,
    pub replicas: [Replica; REPLICAS],
    /// What A has heard of B's replicas.
    pub matched: [u8; REPLICAS - 1],
    pub stopped: bool,
    pub acked: u8,
    pub coordinators: [Option<Coordinator>; COORDINATORS],
    pub taken: u8,
    /// One epoch was activated twice, differently.
    pub twice: bool,
}

impl State {
    /// B's replicas in an order of their own: which of them is called first makes no difference.
    pub fn representative(&self) -> Self {
        let mut order = [1, 2, 3];
        order.sort_by_key(|at| self.seen_of(*at));
        let mut state = self.clone();
        for (to, from) in order.into_iter().enumerate().map(|(at, from)| (at + 1, from)) {
            state.replicas[to] = self.replicas[from];
            state.matched[to - 1] = self.matched[from - 1];
            for (new, old) in state.coordinators.iter_mut().zip(&self.coordinators) {
                if let (Some(new), Some(old)) = (new, old) {
                    new.reports[to] = old.reports[from];
                    new.held = new.held & !(1 << to) | (old.held >> from & 1) << to;
                }
            }
        }
        state
    }

    /// All that there is to tell of one of B's replicas.
    fn seen_of(&self, at: usize) -> (Replica, u8, [Option<Option<u8>>; COORDINATORS], [u8; 2]) {
        let reports = self.coordinators.map(|own| own.map(|own| own.reports[at]));
        let held = self.coordinators.map(|own| own.map_or(0, |own| own.held >> at & 1));
        (self.replicas[at], self.matched[at - 1], reports, held)
    }
}
