//! Registries that speak plain HTTP and are not this machine, as far as a name tells.

use tests::context::Context;
use tests::drydock::Drydock;
use tests::{require_programs, require_root};

use super::place::*;

#[test]
fn privileged_plain_http_where_somebody_says_so() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new();
    let port = place.server.address().rsplit(':').next().unwrap().to_owned();
    // It leads to this machine, and is none of the addresses that are known to.
    let name = |name: &str| format!("0.0.0.0:{port}/{name}:1");
    let context = Context::new("FROM busybox\nRUN --network=none echo 1 > /1\n");
    let option = |more: &str| format!("type=registry,ref={}{more}", name("cache"));
    let home = Drydock::new();
    let refused = home.build(&context).args(["--cache-to", &option("")]).ok();
    assert!(refused.stderr.contains("the cache was not exported"), "{refused}");
    let insecure = option(",registry.insecure=true");
    let output = home.build(&context).args(["--cache-to", &insecure]).ok();
    assert_no_complaint(&output);
    // It is the one option that says so, and not the build.
    let (_machine, run) = fresh(&context, &option(",registry.insecure=false"));
    let output = run.ok();
    assert_eq!(output.executed().len(), 1, "{output}");
    assert!(output.stderr.contains("cannot be used, going on without it"), "{output}");
    let (_machine, run) = fresh(&context, &insecure);
    let (image, output) = run.image_and_output();
    assert_nothing_ran(&output);
    assert_eq!(image.text("1"), "1\n");
    // Images, too.
    let to = |more: &str| format!("type=image,push=true,name={}{more}", name("app"));
    home.build(&context).args(["-o", &to("")]).fails();
    home.build(&context).args(["-o", &to(",registry.insecure=true")]).ok();
    assert!(place.server.manifest("app", "1").unwrap().is_some());
}
