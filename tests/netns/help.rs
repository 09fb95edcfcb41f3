//! The examples of the help texts, run as a user would copy them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::common::{help_examples, root, stderr};
use crate::namespace::Namespace;

const COMMANDS: [&str; 10] =
    ["", "apply", "diff", "list", "explain", "lint", "trace", "doctor", "agent", "cleanup"];

const CONFIGURATION: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
                             kind: KubeProxyConfiguration\nclusterCIDR: 10.244.0.0/16\n";

const KUBECTL: &str = "#!/bin/sh\ncase \"$*\" in\n*'get configmap kube-proxy'*) cat kube-proxy.yaml ;;\n\
                       *) cat cluster.yaml ;;\nesac\n";

/// Excludes commands that do not end by themselves, change settings of the machine, or ask an API
/// server. The agent's tests cover those with an API server.
fn can_run(example: &str) -> bool {
    let others = ["rulegen agent", "rulegen trace", "curl ", "--kubeconfig"];
    !others.iter().any(|other| example.contains(other))
}

#[test]
fn help_examples_run() {
    let mut run = 0;
    for command in COMMANDS {
        let examples = help_examples(command);
        assert!(!examples.is_empty(), "{command}: no examples");
        let namespace = Namespace::new("help");
        let folder = namespace.folder("work");
        symlink(root().join("examples"), folder.join("examples")).unwrap();
        symlink(env!("CARGO_BIN_EXE_rulegen"), folder.join("rulegen")).unwrap();
        fs::copy(root().join("examples/nodeport.yaml"), folder.join("cluster.yaml")).unwrap();
        fs::write(folder.join("kube-proxy.yaml"), CONFIGURATION).unwrap();
        fs::write(folder.join("kubectl"), KUBECTL).unwrap();
        fs::set_permissions(folder.join("kubectl"), fs::Permissions::from_mode(0o755)).unwrap();
        for example in examples.iter().filter(|example| can_run(example)) {
            let work = folder.display();
            let output = namespace.shell(&format!("cd {work}; PATH={work}:$PATH; {example}"));
            // A new namespace does not forward, and differs from any manifest; the manifests for lint
            // have errors.
            let most = i32::from(
                ["rulegen diff", "rulegen doctor", "rulegen lint"]
                    .iter()
                    .any(|c| example.contains(c)),
            );
            let status = output.status.code().unwrap();
            assert!(status <= most, "{example}: status {status}: {}", stderr(&output));
            run += 1;
        }
    }
    assert!(run >= 20, "only {run} examples were run");
}
