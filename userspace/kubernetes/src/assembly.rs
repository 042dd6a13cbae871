//! Objects to snapshots: who declares what, what was built of it, and the snapshot of that.
//!
//! What every source of objects shares; where its texts come from is the source's own.

use std::{collections::BTreeMap, sync::Arc};

use weft_model::{Generations, JwksHeld, Problem, RouteName, RouteStatus, Snapshot};

use crate::{
    build::{Builder, Built, refused},
    catalog::Catalog,
    object::Key,
    status::{Judge, Judgement, Revision},
};

/// All that a source has read, and the snapshot of it.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// What is declared: sources put texts in and take them out.
    pub(crate) catalog: Catalog,
    builder: Builder,
    jwks: Arc<JwksHeld>,
    generations: Arc<Generations>,
    snapshot: Arc<Snapshot>,
}

impl Assembly {
    /// Without objects yet, on `node`, whose workloads have certificates if `mutual_tls`.
    pub(crate) fn new(node: Arc<str>, mutual_tls: bool) -> Self {
        Self {
            catalog: Catalog::default(),
            builder: Builder::with_mutual_tls(node, mutual_tls),
            jwks: Arc::default(),
            generations: Arc::default(),
            snapshot: Arc::default(),
        }
    }

    /// See [`crate::Options::system`].
    pub(crate) fn take_word_of(&mut self, system: Option<Arc<str>>) {
        self.builder.take_word_of(system);
    }

    /// See [`crate::Options::trust_domain`].
    pub(crate) fn install_for(&mut self, trust_domain: Option<Arc<str>>) {
        self.builder.install_for(trust_domain);
    }

    /// These keys are in the snapshot from the next on.
    pub(crate) fn hold(&mut self, jwks: Arc<JwksHeld>) {
        self.jwks = jwks;
    }

    /// The objects in the catalog that are in force are of these generations.
    pub(crate) fn at(&mut self, generations: Arc<Generations>) {
        self.generations = generations;
    }

    /// The next snapshot is newer than `last`, which is in force.
    pub(crate) fn go_on_after(&mut self, last: &Arc<Snapshot>) {
        self.snapshot = Arc::clone(last);
    }

    /// Builds what the catalog holds, without a snapshot of it.
    pub(crate) fn take_over(&mut self) {
        self.builder.apply(self.catalog.settle());
    }

    /// The snapshot of what the catalog holds; the same one where nothing has changed.
    pub(crate) fn snapshot(&mut self) -> Arc<Snapshot> {
        let built = self.builder.apply(self.catalog.settle());
        let problems = self.catalog.problems(built.notices.values().flatten());
        let routes = routes(built, &self.catalog);
        if let Some(snapshot) = next(&self.snapshot, built, (&self.jwks, &self.generations), routes, problems)
        {
            self.snapshot = Arc::new(snapshot);
        }
        Arc::clone(&self.snapshot)
    }

    /// What is to be said of the objects of these `revisions`, which `snapshot` is built of; what is the same as `before`
    /// is the same allocation.
    pub(crate) fn judge(
        &self,
        revisions: &BTreeMap<Key, Arc<Revision>>,
        snapshot: &Arc<Snapshot>,
        before: &Judgement,
    ) -> Judgement {
        Judge::new(&self.catalog, self.builder.noticed(), &snapshot.routes).all(revisions, snapshot, before)
    }
}

/// What became of each route, those included that cannot be read.
fn routes(built: &Built, catalog: &Catalog) -> Arc<BTreeMap<RouteName, Arc<RouteStatus>>> {
    let mut routes = Arc::clone(&built.routes);
    for (name, reason, message) in catalog.refusals() {
        let status = refused(reason, &message, built.routes.get(&name).map(|status| &**status));
        Arc::make_mut(&mut routes).insert(name, Arc::new(status));
    }
    routes
}

/// The snapshot after `old`; `None` where it would hold the same.
fn next(
    old: &Snapshot,
    built: &Built,
    (jwks, generations): (&Arc<JwksHeld>, &Arc<Generations>),
    routes: Arc<BTreeMap<RouteName, Arc<RouteStatus>>>,
    problems: Vec<Problem>,
) -> Option<Snapshot> {
    let Built { locality, services, workloads, policies, mtls, jwt, access_logs, .. } = built;
    let same = old.version > 0
        && old.trust_domain == built.trust_domain
        && old.trust_domain_aliases == built.trust_domain_aliases
        && old.certificate_ttl == built.certificate_ttl
        && old.brought_authority == built.brought_authority
        && old.locality == *locality
        && Arc::ptr_eq(&old.services, services)
        && Arc::ptr_eq(&old.workloads, workloads)
        && Arc::ptr_eq(&old.policies, policies)
        && Arc::ptr_eq(&old.mtls, mtls)
        && Arc::ptr_eq(&old.jwt, jwt)
        && old.jwks == *jwks
        && Arc::ptr_eq(&old.access_logs, access_logs)
        && old.generations == *generations;
    let problems = if *old.problems == problems { Arc::clone(&old.problems) } else { Arc::new(problems) };
    let routes = if old.routes == routes { Arc::clone(&old.routes) } else { routes };
    if same && Arc::ptr_eq(&old.routes, &routes) && Arc::ptr_eq(&old.problems, &problems) {
        return None;
    }
    Some(Snapshot {
        version: old.version + 1,
        trust_domain: Arc::clone(&built.trust_domain),
        trust_domain_aliases: Arc::clone(&built.trust_domain_aliases),
        certificate_ttl: built.certificate_ttl,
        brought_authority: built.brought_authority.clone(),
        locality: Arc::clone(locality),
        services: Arc::clone(services),
        workloads: Arc::clone(workloads),
        policies: Arc::clone(policies),
        mtls: Arc::clone(mtls),
        jwt: Arc::clone(jwt),
        jwks: Arc::clone(jwks),
        access_logs: Arc::clone(access_logs),
        routes,
        problems,
        generations: Arc::clone(generations),
    })
}
