module llmservice.dev/e2e/local-path

go 1.24.0

tool github.com/rancher/local-path-provisioner

require github.com/rancher/local-path-provisioner v0.0.30
