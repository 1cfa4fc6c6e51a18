"""The stages of a run, one file a kind: what each reads, does and leaves. `sacpo.pipeline.order` has their order."""
