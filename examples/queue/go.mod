module github.com/graphretry/graphretry/examples/queue

go 1.25.0

replace github.com/graphretry/graphretry => ../../

require (
	github.com/graphretry/graphretry v0.0.0-00010101000000-000000000000
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
