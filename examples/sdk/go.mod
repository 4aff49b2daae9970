module github.com/graphretry/graphretry/examples/sdk

go 1.26.0

replace github.com/graphretry/graphretry => ../../

require (
	github.com/graphretry/graphretry v0.0.0-00010101000000-000000000000
	github.com/huandu/facebook/v2 v2.9.1
	github.com/piusalfred/whatsapp v0.1.12
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
