package azure

// newRoutes is the catalogue: every operation that the Azure side has.
func newRoutes() routes {
	t := routes{}
	addModelOperations(t)
	addResponses(t)
	addCollections(t, "/openai/", dated, "")
	addCollections(t, "/openai/v1/", v1, "")
	addRealtime(t)
	addFoundry(t)
	addOtherServices(t)
	return t
}

// addModelOperations are those that a deployment does, which the classic paths
// name and the v1 paths leave to the body.
func addModelOperations(t routes) {
	for _, op := range []struct {
		path, action string
		handle       func(*exchange)
	}{
		{"chat/completions", "OpenAI/deployments/chat/completions/action", chatCompletions},
		{"completions", "OpenAI/deployments/completions/action", completions},
		{"embeddings", "OpenAI/deployments/embeddings/action", embeddings},
		{"audio/transcriptions", "OpenAI/deployments/audio/action", transcriptions},
		{"audio/translations", "OpenAI/deployments/audio/action", transcriptions},
		{"audio/speech", "OpenAI/deployments/audio/action", speech},
		{"images/generations", "OpenAI/images/generations/action", imageGenerations},
		{"images/edits", "OpenAI/images/generations/action", imageEdits},
		{"images/variations", "OpenAI/images/generations/action", imageEdits},
	} {
		t.add("POST", "/openai/deployments/{deployment-id}/"+op.path, op.action, dated, op.handle)
		t.add("POST", "/openai/v1/"+op.path, op.action, v1, op.handle)
	}
	t.add("POST", "/openai/images/generations:submit", "OpenAI/images/generations/action", dated, submitImages)
	t.add("POST", "/openai/deployments/{deployment-id}/images/generations:submit", "OpenAI/images/generations/action", dated, submitImages)
	t.add("GET", "/openai/operations/images/{operation-id}", "OpenAI/images/generations/action", dated, imageOperation)
	t.add("GET", "/openai/deployments", "OpenAI/deployments/read", dated, deployments)
	t.add("GET", "/openai/models", "OpenAI/models/read", dated, models)
	t.add("GET", "/openai/models/{model-id}", "OpenAI/models/read", dated, model)
	t.add("GET", "/openai/v1/models", "OpenAI/models/read", v1, models)
	t.add("GET", "/openai/v1/models/{model-id}", "OpenAI/models/read", v1, model)
}

func addResponses(t routes) {
	for base, version := range map[string]versioning{"/openai/responses": dated, "/openai/v1/responses": v1} {
		t.add("POST", base, "OpenAI/responses/write", version, createResponse)
		t.add("GET", base+"/{response_id}", "OpenAI/responses/read", version, readObject)
		t.add("DELETE", base+"/{response_id}", "OpenAI/responses/delete", version, deleteResponse)
		t.add("GET", base+"/{response_id}/input_items", "OpenAI/responses/read", version, listObjects)
		t.add("POST", base+"/{response_id}/cancel", "OpenAI/responses/write", version, cancel)
	}
}

// addCollections registers what clients keep at the resource or, with a data
// action for all of it, in a project. Operations come before the collections,
// so that threads/runs is not taken for a thread.
func addCollections(t routes, base string, version versioning, action string) {
	verbs := map[string]string{"GET": "/read", "POST": "/write", "DELETE": "/delete"}
	for _, op := range []struct {
		method, path, action string
		handle               func(*exchange)
	}{
		{"POST", "files", "OpenAI/files", uploadFile},
		{"GET", "files", "OpenAI/files", listObjects},
		{"GET", "files/{file_id}", "OpenAI/files", readObject},
		{"GET", "files/{file_id}/content", "OpenAI/files", downloadFile},
		{"DELETE", "files/{file_id}", "OpenAI/files", deleteFile},
		{"POST", "batches/{batch_id}/cancel", "OpenAI/batch-jobs", cancel},
		{"POST", "fine_tuning/jobs/{job_id}/cancel", "OpenAI/fine-tunes", cancel},
		{"GET", "fine_tuning/jobs/{job_id}/events", "OpenAI/fine-tunes", nothing},
		{"POST", "threads/runs", "OpenAI/assistants", createThreadAndRun},
		{"POST", "threads/{thread_id}/runs/{run_id}/cancel", "OpenAI/assistants", cancel},
		{"GET", "threads/{thread_id}/runs/{run_id}/steps", "OpenAI/assistants", nothing},
		{"POST", "vector_stores/{vector_store_id}/search", "OpenAI/assistants/vector-stores", searchVectorStore},
		{"GET", "containers/{container_id}/files/{file_id}/content", "OpenAI/containers", containerFile},
		{"GET", "videos/{video_id}/content", "OpenAI/video/generations", videoContent},
		{"POST", "videos/{video_id}/remix", "OpenAI/video/generations", remixVideo},
	} {
		t.add(op.method, base+op.path, orElse(action, op.action)+verbs[op.method], version, op.handle)
	}
	for _, c := range []*collection{
		&assistants, &threads, &threadMessages, &threadRuns, &vectorStores, &vectorStoreFiles, &vectorStoreBatches,
		&batches, &fineTuningJobs, &containers, &containerFiles, &videos, &conversations,
	} {
		c.add(t, base, orElse(action, c.action), version)
	}
}

func addRealtime(t routes) {
	const action = "OpenAI/deployments/realtime/action"
	t.add("GET", "/openai/realtime", action, dated, realtime)
	t.add("GET", "/openai/v1/realtime", action, v1, realtime)
	t.add("POST", "/openai/v1/realtime/client_secrets", action, v1, clientSecrets)
	t.add("POST", "/openai/v1/realtime/calls", action, v1, realtimeCall).ephemeral = true
}

// addFoundry are the models of others, and projects with their agents.
func addFoundry(t routes) {
	t.add("POST", "/models/chat/completions", "MaaS/chat/completions/action", versionless, chatCompletions)
	t.add("POST", "/models/embeddings", "MaaS/embeddings/action", versionless, embeddings)
	t.add("POST", "/models/images/embeddings", "MaaS/images/embeddings/action", versionless, imageEmbeddings)
	t.add("POST", "/models/images/generations", "MaaS/images/generations/action", versionless, imageGenerations)
	t.add("GET", "/models/info", "MaaS/info/read", versionless, modelInfo)
	for _, path := range []string{"/v1/rerank", "/v2/rerank", "/models/v1/rerank", "/models/v2/rerank"} {
		t.add("POST", path, "MaaS/rerank/action", versionless, rerank)
	}
	for _, version := range []string{"v1", "v2"} {
		t.add("POST", "/providers/cohere/"+version+"/rerank", "MaaS/rerank/action", versionless, rerank)
		t.add("POST", "/providers/cohere/"+version+"/embed", "MaaS/embeddings/action", versionless, cohereEmbed)
	}
	t.add("POST", "/anthropic/v1/messages", "MaaS/messages/action", versionless, anthropicMessages)
	t.add("POST", "/anthropic/v1/messages/count_tokens", "MaaS/messages/action", versionless, countTokens)
	addCollections(t, "/api/projects/{projectName}/", named, "AIServices/agents")
}

func addOtherServices(t routes) {
	const analyze = "FormRecognizer/documentmodels/analyze/action"
	t.add("POST", "/documentintelligence/documentModels/{modelId}:analyze", analyze, dated, analyzeDocument)
	t.add("GET", "/documentintelligence/documentModels/{modelId}/analyzeResults/{resultId}", analyze, dated, analyzeResult)
	t.add("POST", "/cognitiveservices/v1", "SpeechServices/text-to-speech/action", versionless, textToSpeech)
	t.add("GET", "/cognitiveservices/voices/list", "SpeechServices/text-to-speech/read", versionless, voices)
}
