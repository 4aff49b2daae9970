module github.com/graphretry/graphretry/examples/sdk

go 1.26.0

replace github.com/graphretry/graphretry => ../../

require (
	github.com/go-resty/resty/v2 v2.17.2
	github.com/graphretry/graphretry v0.0.0-00010101000000-000000000000
	github.com/gregjones/httpcache v0.0.0-20190611155906-901d90724c79
	github.com/hashicorp/go-retryablehttp v0.7.8
	github.com/huandu/facebook/v2 v2.9.1
	github.com/markbates/goth v1.82.0
	github.com/oapi-codegen/runtime v1.9.0
	github.com/piusalfred/whatsapp v0.1.12
	github.com/stretchr/testify v1.12.1
	github.com/valyala/fasthttp v1.78.0
	golang.org/x/oauth2 v0.38.0
)

require (
	github.com/apapsch/go-jsonmerge/v2 v2.0.0 // indirect
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/hashicorp/go-cleanhttp v0.5.2 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/molecule-man/go-brrr v1.3.1 // indirect
	github.com/valyala/bytebufferpool v1.0.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.62.0 // indirect
)
