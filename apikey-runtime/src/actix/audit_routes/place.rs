//! A node of the introspection, and the scopes that it may be in.

use actix_web::introspection::{GuardReport, IntrospectionNode, ResourceType};

/// A node, which stands for all services and scopes of one full pattern.
pub(super) struct Place<'t> {
    pub(super) node: &'t IntrospectionNode,
    /// The nodes whose patterns are the start of this one's, from the root.
    around: Vec<&'t IntrospectionNode>,
    root: &'t IntrospectionNode,
}

impl<'t> Place<'t> {
    pub(super) fn root(root: &'t IntrospectionNode) -> Self {
        Self {
            node: root,
            around: Vec::new(),
            root,
        }
    }

    pub(super) fn is_app(&self) -> bool {
        self.node.full_path.is_empty()
    }

    /// Returns the nodes inside, the first one last.
    pub(super) fn inside(&self) -> Vec<Self> {
        let mut around = self.around.clone();
        // A scope with an empty pattern is listed as `/`, beside its own routes.
        let children = self.node.children.iter();
        around.extend(children.filter(|child| is_empty_scope(child)));
        around.push(self.node);
        let place = |node| Self {
            node,
            around: around.clone(),
            root: self.root,
        };
        self.node.children.iter().rev().map(place).collect()
    }

    /// Returns the guards that a request has to meet: those of the node, and of the scopes around.
    pub(super) fn guards(&self) -> Vec<GuardReport> {
        let scopes = self.around.iter().filter(|around| self.may_be_in(around));
        let guards = scopes.flat_map(|scope| &scope.guard_details);
        guards.chain(&self.node.guard_details).cloned().collect()
    }

    /// Returns whether a node may be a scope around this one, and is not just a resource whose
    /// pattern is the start of this one's.
    fn may_be_in(&self, around: &IntrospectionNode) -> bool {
        if matches!(around.kind, ResourceType::Scope) || around.full_path.is_empty() {
            return true;
        }
        if is_empty_scope(around) {
            return true;
        }
        // The pattern of a service is relative to its scope.
        let scope = |own: &String| self.node.full_path.strip_suffix(own.as_str());
        let mut scopes = self.node.patterns.iter().filter_map(scope);
        scopes.any(|scope| scope.starts_with(&around.full_path))
    }

    /// Returns whether a response that came before any part of the path was matched came from
    /// middleware around the whole app.
    pub(super) fn is_before_routing_certain(&self) -> bool {
        // Such a scope takes each path, and no part of it.
        !self.root.children.iter().any(is_empty_scope)
    }

    /// Returns whether the app has a route of this pattern, which is audited by itself.
    pub(super) fn has_route(&self, pattern: &str) -> bool {
        self.routes().contains(&pattern)
    }

    /// Returns the patterns of all routes of the app.
    pub(super) fn routes(&self) -> Vec<&'t str> {
        let (mut nodes, mut routes) = (vec![self.root], Vec::new());
        while let Some(node) = nodes.pop() {
            if matches!(node.kind, ResourceType::Resource) {
                routes.push(node.full_path.as_str());
            }
            nodes.extend(&node.children);
        }
        routes
    }

    /// Returns whether a scope may have the pattern of the node, beside a resource.
    pub(super) fn may_be_scope(&self) -> bool {
        let is_scope = matches!(self.node.kind, ResourceType::Scope | ResourceType::App);
        let has_inner = !self.node.children.is_empty();
        is_scope || has_inner || self.node.patterns.iter().any(String::is_empty)
    }

    /// Returns whether the introspection made the node of the start of an expression with `/` in it.
    pub(super) fn is_part(&self) -> bool {
        let count = |brace: char| self.node.full_path.matches(brace).count();
        count('{') != count('}')
    }

    /// Returns the pattern by which the default service of the scope is named.
    pub(super) fn default_pattern(&self) -> String {
        format!("{}/{{default}}*", self.node.full_path.trim_end_matches('/'))
    }
}

fn is_empty_scope(node: &IntrospectionNode) -> bool {
    node.full_path == "/" && node.patterns.iter().any(String::is_empty)
}
