// Package azure emulates the part of Azure that a keyless client of Azure
// OpenAI meets: Entra ID, the managed identity endpoints and the resource
// itself.
//
// # Two sides
//
// The identity side issues RS256 tokens in all the ways azidentity asks for
// them: App Service's managed identity endpoint, IMDS, client secret, client
// certificate and federated assertion. The Azure side checks those tokens for
// real — signature, expiry, audience, tenant, role — and answers with the
// bodies that Azure has been seen to send, white space included, because
// clients match on them.
//
// # State and faults
//
// What could go wrong is a field of [Faults], changed while the emulator runs
// with [Emulator.Set] or through the control API. A cause that is a condition
// in Azure is a condition here: "missing-role" takes the role away, and the
// refusal follows from the ordinary checks. What nobody has settled about the
// real Azure is a named switch in [Resource], never a hidden guess.
//
// # Assertions
//
// [Emulator.Requests] and [Emulator.TokenRequests] tell what arrived, byte for
// byte where bytes matter.
//
// The emulator is for tests, demonstrations and manual work. It keeps what it
// receives, so it must never be given a real credential.
package azure
