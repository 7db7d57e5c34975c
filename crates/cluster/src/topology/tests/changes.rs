use crate::clock::Actor;
use crate::record::Mode;
use crate::topology::{
    Advance, Change, Cleaned, Fence, JobKind, MemberState, Refusal, Role, Stage, Topology, samples,
};
use base::KeyspaceId;
use ring::{Epoch, NodeId, Partition, Ring};

const SONGS: KeyspaceId = KeyspaceId(0);

fn add(id: u64) -> Change {
    let (address, zone) = (format!("node-{id}"), format!("z{}", id % 3));
    Change::AddMember { id: NodeId(id), address, zone, weight: 1 }
}

fn grown(nodes: u64, replicas: u8) -> Topology {
    let mut topology = Topology::new(1, Ring::new(16).expect("a power of two"));
    for id in 1..=nodes {
        topology = go(&topology, &add(id));
    }
    let keyspace = topology.create_keyspace("songs", replicas, Mode::Siblings, 16);
    go(&topology, &keyspace.expect("there are members"))
}

fn go(topology: &Topology, change: &Change) -> Topology {
    let next = topology.apply(change).unwrap_or_else(|refusal| panic!("{change:?}: {refusal}"));
    assert_eq!(next.epoch(), Epoch(topology.epoch().0 + 1));
    next
}

fn state(id: u64, state: MemberState) -> Change {
    Change::SetState { id: NodeId(id), state }
}

fn advance(topology: &Topology, partition: Partition, to: Stage) -> Change {
    let job = topology.job().expect("a job is under way").id;
    Change::AdvanceJob { job, steps: vec![Advance { replicas: 3, partition, to }] }
}

fn moving() -> (Topology, Partition, NodeId, NodeId) {
    let topology = go(&grown(4, 3), &add(5));
    let topology = go(&topology, &topology.start_job(0).expect("it has members"));
    let placement = topology.placement(3).expect("songs has three");
    let step = placement.steps().find(|step| step.handovers.len() == 1).expect("node 5 gets some");
    let handover = step.handovers[0];
    let (from, to) = (handover.from.expect("an owner goes"), handover.to.expect("node 5"));
    (topology, step.partition, from, to)
}

#[test]
fn the_samples_have_every_kind_of_change_and_end_without_traces() {
    let kinds: std::collections::BTreeSet<u8> = samples::changes()
        .into_iter()
        .map(|change| {
            let id = crate::topology::ProposalId { node: NodeId(0), number: 0 };
            crate::topology::Entry { epoch: Epoch(1), id, change }.encode()[3]
        })
        .collect();
    assert_eq!(kinds.into_iter().collect::<Vec<u8>>(), (1..=15).collect::<Vec<u8>>());
    let last = samples::topologies().pop().expect("never empty");
    assert!(last.job().is_none());
    assert_eq!(last.members().len(), 3);
    assert!(last.placements().iter().all(|placement| placement.steps().next().is_none()));
}

#[test]
fn a_partition_changes_hands_stage_by_stage() {
    let (planned, partition, from, to) = moving();
    let owners = planned.owners(SONGS, partition).expect("it exists");
    assert_eq!((owners.list().len(), owners.receivers().count()), (3, 0));
    assert_eq!(owners.writers(), owners.list());

    let copying = go(&planned, &advance(&planned, partition, Stage::Copying));
    let owners = copying.owners(SONGS, partition).expect("it exists");
    assert_eq!((owners.role(from), owners.role(to)), (Some(Role::Owner), Some(Role::Receiver)));
    assert_eq!((owners.writers().len(), owners.readers().len()), (4, 3));
    assert_eq!(owners.count(&[from]), 1, "the source counts alone");
    assert_eq!(owners.count(&[to]), 0, "a receiver counts for nothing");
    assert_eq!(owners.count_max(), 3);

    let joint = go(&copying, &advance(&copying, partition, Stage::Joint));
    let owners = joint.owners(SONGS, partition).expect("it exists");
    assert_eq!((owners.writers().len(), owners.readers().len()), (4, 4));
    assert_eq!((owners.count(&[from]), owners.count(&[to]), owners.count(&[from, to])), (0, 0, 1));
    assert_eq!(owners.count_max(), 3);

    let flipped = go(&joint, &advance(&joint, partition, Stage::Flipped));
    let owners = flipped.owners(SONGS, partition).expect("it exists");
    assert_eq!((owners.role(from), owners.role(to)), (Some(Role::Departing), Some(Role::Owner)));
    assert_eq!((owners.list().len(), owners.writers().len(), owners.count(&[from])), (3, 3, 0));

    let copies = vec![Cleaned { replicas: 3, partition, node: from }];
    let cleaned = go(&flipped, &Change::Clean { copies: copies.clone() });
    assert_eq!(cleaned.owners(SONGS, partition).and_then(|owners| owners.role(from)), None);
    let again = Refusal::NotDeparting { node: from, partition };
    assert_eq!(cleaned.apply(&Change::Clean { copies }), Err(again));
}

#[test]
fn stages_are_taken_in_their_order() {
    let (planned, partition, ..) = moving();
    let wrong = Err(Refusal::WrongStage { partition });
    for stage in [Stage::Joint, Stage::Flipped] {
        assert_eq!(planned.apply(&advance(&planned, partition, stage)), wrong);
    }
    let copying = go(&planned, &advance(&planned, partition, Stage::Copying));
    for stage in [Stage::Copying, Stage::Flipped] {
        assert_eq!(copying.apply(&advance(&copying, partition, stage)), wrong);
    }
    let job = planned.job().expect("a job is under way").id;
    assert!(matches!(copying.apply(&Change::EndJob { job }), Err(Refusal::Unfinished { .. })));
    let unmoved = |p: &Partition| planned.placement(3).is_some_and(|all| all.step(*p).is_none());
    let partition = planned.ring().iter().find(unmoved).expect("most stay");
    let refused = planned.apply(&advance(&planned, partition, Stage::Copying));
    assert_eq!(refused, Err(Refusal::WrongStage { partition }));
}

#[test]
fn requests_are_refused_once_the_owners_have_changed_and_only_then() {
    let (planned, partition, ..) = moving();
    let copying = go(&planned, &advance(&planned, partition, Stage::Copying));
    let joint = go(&copying, &advance(&copying, partition, Stage::Joint));
    let other = planned.ring().iter().find(|p| *p != partition).expect("there are sixteen");
    assert_eq!(joint.fence(SONGS, partition, copying.epoch()), Fence::CallerBehind);
    assert_eq!(joint.fence(SONGS, other, planned.epoch()), Fence::Serve, "another partition");
    assert_eq!(planned.fence(SONGS, other, joint.epoch()), Fence::SelfBehind);
    assert_eq!(joint.fence(SONGS, partition, joint.epoch()), Fence::Serve);
    assert_eq!(joint.fence(KeyspaceId(9), partition, joint.epoch()), Fence::Unknown);
    assert_eq!(joint.fence(SONGS, Partition(16), joint.epoch()), Fence::Unknown);
    // What has nothing to do with the partition leaves it alone.
    let later = go(&joint, &add(9));
    assert_eq!(later.fence(SONGS, partition, joint.epoch()), Fence::Serve);
}

fn owners(topology: &Topology) -> Vec<Vec<NodeId>> {
    let of = |p| topology.owners(SONGS, p).map(|owners| owners.list().to_vec());
    topology.ring().iter().filter_map(of).collect()
}

/// Every step one stage on.
fn round(topology: &Topology) -> Topology {
    let placement = topology.placement(3).expect("songs has three");
    let next = |step: crate::topology::Step| {
        let (replicas, partition) = (3, step.partition);
        Some(Advance { replicas, partition, to: placement.next_stage(partition)? })
    };
    let steps: Vec<Advance> = placement.steps().filter_map(next).collect();
    let job = topology.job().expect("a job is under way").id;
    go(topology, &Change::AdvanceJob { job, steps })
}

#[test]
fn rolled_back_at_any_stage_everything_is_where_it_was() {
    let (planned, ..) = moving();
    for stages in 0..=3 {
        let mut topology = planned.clone();
        (0..stages).for_each(|_| topology = round(&topology));
        let job = topology.job().expect("a job is under way").id;
        topology = go(&topology, &Change::RollBackJob { job });
        while topology.placement(3).is_some_and(|placement| {
            placement.steps().any(|step| placement.next_stage(step.partition).is_some())
        }) {
            topology = round(&topology);
        }
        if let Some(job) = topology.job() {
            assert_eq!((stages > 0, job.kind), (true, JobKind::Back));
            topology = go(&topology, &Change::EndJob { job: job.id });
        }
        assert_eq!(owners(&topology), owners(&planned), "after {stages} stages");
        let held: Vec<NodeId> =
            topology.placements()[0].departing().map(|(_, node)| node).collect();
        assert_eq!(held.is_empty(), stages == 0, "what was copied is to be deleted");
        assert!(held.iter().all(|node| *node == NodeId(5)), "{held:?}");
        // And the same job can be done after all.
        let again = go(&topology, &topology.start_job(0).expect("it has members"));
        assert_eq!(
            again.placements()[0].target().map(ring::Topology::loads).map(|l| l.len()),
            Some(5)
        );
    }
}

#[test]
fn a_stopped_job_leaves_what_is_flipped() {
    let (planned, partition, from, to) = moving();
    let mut topology = planned;
    for stage in [Stage::Copying, Stage::Joint, Stage::Flipped] {
        topology = go(&topology, &advance(&topology, partition, stage));
    }
    let job = topology.job().expect("a job is under way").id;
    let stopped = go(&topology, &Change::StopJob { job, hold: true });
    let owners = stopped.owners(SONGS, partition).expect("it exists");
    assert_eq!((owners.role(from), owners.role(to)), (Some(Role::Departing), Some(Role::Owner)));
    assert_eq!(stopped.apply(&Change::StopJob { job, hold: true }), Err(Refusal::UnknownJob));
    assert_eq!(Topology::decode(&stopped.encode()).as_ref(), Ok(&stopped));
}

#[test]
fn a_member_goes_when_it_holds_nothing_and_its_actor_never_comes_back() {
    let topology = grown(4, 3);
    let held = Err(Refusal::MemberInUse { node: NodeId(2) });
    assert_eq!(topology.apply(&Change::RemoveMember { id: NodeId(2) }), held);
    let mut topology = go(&topology, &state(2, MemberState::Leaving));
    topology = go(&topology, &topology.start_job(0).expect("three are left"));
    while topology.placements()[0].steps().any(|step| step.stage != Some(Stage::Flipped)) {
        topology = round(&topology);
    }
    let job = topology.job().expect("a job is under way").id;
    topology = go(&topology, &Change::EndJob { job });
    assert_eq!(topology.apply(&Change::RemoveMember { id: NodeId(2) }), held, "copies are left");
    let not_down = Err(Refusal::MemberNotDown { node: NodeId(2) });
    assert_eq!(topology.apply(&Change::ForgetMember { id: NodeId(2) }), not_down);
    let copies = topology.placements()[0]
        .departing()
        .map(|(partition, node)| Cleaned { replicas: 3, partition, node })
        .collect();
    topology = go(&topology, &Change::Clean { copies });
    topology = go(&topology, &Change::RemoveMember { id: NodeId(2) });
    assert_eq!(topology.member_of(Actor(2)), None);
    topology = go(&topology, &add(2));
    assert_eq!(topology.member(NodeId(2)).map(|member| member.actor), Some(Actor(5)));
}

#[test]
fn what_does_not_fit_is_refused_and_says_why() {
    let topology = grown(3, 3);
    let refused = |change: &Change| topology.apply(change).expect_err("it does not fit");
    assert_eq!(refused(&add(2)), Refusal::DuplicateMember { node: NodeId(2) });
    assert_eq!(refused(&state(9, MemberState::Up)), Refusal::UnknownMember { node: NodeId(9) });
    let renew = Change::RenewActor { id: NodeId(1), from: Actor(3) };
    assert_eq!(refused(&renew), Refusal::ActorChanged { node: NodeId(1) });
    let drop = Change::DropKeyspace { id: KeyspaceId(4) };
    assert_eq!(refused(&drop), Refusal::UnknownKeyspace { id: KeyspaceId(4) });
    let nothing = topology.start_job(0).expect("it has members");
    assert_eq!(refused(&nothing), Refusal::NothingToMove);
    let again = topology.create_keyspace("songs", 3, Mode::Siblings, 1).expect("there are members");
    assert_eq!(refused(&again), Refusal::DuplicateKeyspace { name: "songs".into() });
    let placement = None;
    let unplaced = Change::CreateKeyspace {
        name: "new".into(),
        replicas: 2,
        mode: Mode::Siblings,
        siblings_max: 1,
        placement,
    };
    assert_eq!(refused(&unplaced), Refusal::PlacementMismatch { replicas: 2 });
    let long = topology.create_keyspace(&"n".repeat(65), 3, Mode::Siblings, 1);
    assert_eq!(refused(&long.expect("made")), Refusal::OutOfBounds { what: "keyspace" });
    // A placement that was found before a member left.
    let target = topology.create_keyspace("new", 2, Mode::Siblings, 1).expect("there are members");
    let left = go(&topology, &state(1, MemberState::Leaving));
    assert_eq!(left.apply(&target), Err(Refusal::PlacedOnUnfit { node: NodeId(1) }));
    let nobody = Topology::new(1, Ring::new(16).expect("a power of two"));
    let none = nobody.create_keyspace("new", 2, Mode::Siblings, 1);
    assert_eq!(none, Err(Refusal::Ring(ring::Error::NoMembers)));
    let (planned, ..) = moving();
    let job = planned.start_job(0).expect("it has members");
    assert_eq!(planned.apply(&job), Err(Refusal::JobUnderWay));
    assert_eq!(go(&planned, &state(1, MemberState::Down)).job(), planned.job());
}

#[test]
fn the_way_back_to_a_lost_node_is_closed() {
    let (planned, _, from, _) = moving();
    let mut topology = planned;
    (0..3).for_each(|_| topology = round(&topology));
    topology = go(&topology, &state(from.0, MemberState::Down));
    let job = topology.job().expect("a job is under way").id;
    let back = topology.apply(&Change::RollBackJob { job });
    assert_eq!(back, Err(Refusal::CannotRollBack { node: from }));
    go(&topology, &Change::StopJob { job, hold: true });
}
