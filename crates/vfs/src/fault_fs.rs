//! stub
#[derive(Debug)]
pub struct Fault;
#[derive(Debug)]
pub struct FaultFs;
#[derive(Debug)]
pub struct FaultPlan;
#[derive(Debug)]
pub struct OpKind;
