package app

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// newTracer returns a tracer that sends spans over OTLP, as the standard OTEL_*
// variables say, and what ends it. Without an endpoint in the environment there
// is none, and the tracer is nil.
//
// The variables are those of
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/;
// of the protocols only http/protobuf is built in.
func newTracer(ctx context.Context, lookup func(string) (string, bool), logger *zap.Logger) (trace.Tracer, func(context.Context) error, error) {
	if !tracingWanted(lookup) {
		return nil, func(context.Context) error { return nil }, nil
	}
	if err := checkProtocol(lookup); err != nil {
		return nil, nil, err
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	described, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "entra-sidecar")),
		resource.WithFromEnv()) // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
	if err != nil {
		return nil, nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		logger.Warn("spans could not be sent", zap.Error(err))
	}))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(described))
	return provider.Tracer("entra-sidecar"), provider.Shutdown, nil
}

// flushSpans sends the last spans, for a short while at most: a collector that is
// away must not hold up the end.
func flushSpans(flush func(context.Context) error, logger *zap.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := flush(ctx); err != nil {
		logger.Warn("the last spans could not be sent", zap.Error(err))
	}
}

func tracingWanted(lookup func(string) (string, bool)) bool {
	if disabled, _ := lookup("OTEL_SDK_DISABLED"); disabled == "true" {
		return false
	}
	if exporter, _ := lookup("OTEL_TRACES_EXPORTER"); exporter == "none" {
		return false
	}
	general, _ := lookup("OTEL_EXPORTER_OTLP_ENDPOINT")
	traces, _ := lookup("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	return general != "" || traces != ""
}

func checkProtocol(lookup func(string) (string, bool)) error {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		switch protocol, _ := lookup(name); protocol {
		case "":
		case "http/protobuf":
			return nil
		default:
			return fmt.Errorf("%s: %q is not built in: set http/protobuf, and an endpoint that takes it (port 4318 by convention)", name, protocol)
		}
	}
	return nil
}
