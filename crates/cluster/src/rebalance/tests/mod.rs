//! Jobs in a model of a cluster: nodes with disks that survive them, messages that take their time, clients that write all the while.

mod crashes;
mod fetches;
mod jobs;
mod thousand;
mod world;
