// Alerts from the app's own log lines and invocations, and on production's storage. A test compares
// the quoted log lines and the functions' names with the program.

import { alertType, tagsType } from '../types.bicep'

param name string
param suffix string
param location string
param tags tagsType
param workspaceId string
param email string
@description('The server whose storage fills while the new slot waits; empty: no alert on it.')
param sourceServerId string

param alerts alertType[] = [
  {
    name: 'failed'
    title: 'DeltaCompare: a recovery, a table or a part of one failed'
    severity: 1
    query: 'AppTraces | where Message has "work item failed" or Message has "recovery failed" or Message has "the recovery cannot be planned"'
    window: 'PT15M'
    range: null
  }
  {
    name: 'poison'
    title: 'DeltaCompare: a message was given up'
    severity: 1
    query: 'AppRequests | where Name in ("FailPlan", "FailWorkItem")'
    window: 'PT15M'
    range: null
  }
  {
    name: 'undecodable'
    title: 'DeltaCompare: a queue has a message that the Functions host cannot decode'
    severity: 2
    query: 'AppTraces | where SeverityLevel >= 2 and tostring(Properties.Category) == "Azure.Storage.Queues.QueueServiceClient"'
    window: 'PT15M'
    range: null
  }
  {
    name: 'error'
    title: 'DeltaCompare: the program wrote an error: somebody else\'s message, another app on this head, or a fault of its own'
    severity: 2
    query: 'AppTraces | where SeverityLevel >= 3 and Message startswith "{"'
    window: 'PT15M'
    range: null
  }
  {
    name: 'no-progress'
    title: 'DeltaCompare: for half an hour no work item went on, though some were tried'
    severity: 2
    query: 'AppTraces | extend broken = Message has "trouble with a work item" or Message has "the invocation failed; the host repeats it", done = Message has "work item completed" or Message has "work item paused" | summarize broken = countif(broken), done = countif(done) | where broken > 0 and done == 0'
    window: 'PT30M'
    range: null
  }
  {
    name: 'silent'
    title: 'DeltaCompare: a recovery has not ended, and for an hour nothing was heard of it'
    severity: 2
    query: 'union (AppRequests | where (Name == "StartRecovery" and ResultCode == "202") or (Name == "RetryRecovery" and ResultCode == "200") | project TimeGenerated, ended = false), (AppTraces | where Message has "work item completed" or Message has "work item paused" | project TimeGenerated, ended = false), (AppTraces | where Message has "recovery ended" or Message has "recovery failed" | project TimeGenerated, ended = true) | summarize arg_max(TimeGenerated, ended) | where not(ended) and TimeGenerated < ago(1h)'
    window: 'PT30M'
    // Also when the app is dead: what it said last may be long ago.
    range: 'P2D'
  }
]

resource mail 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(email)) {
  name: '${name}-mail-${suffix}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'delta'
    enabled: true
    emailReceivers: [{ name: 'on-call', emailAddress: email, useCommonAlertSchema: true }]
  }
}

resource rules 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for alert in alerts: {
    name: '${name}-${alert.name}-${suffix}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: alert.title
      severity: alert.severity
      enabled: true
      evaluationFrequency: 'PT5M'
      windowSize: alert.window
      overrideQueryTimeRange: alert.range
      scopes: [workspaceId]
      // The workspace has no such tables before the first telemetry.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: alert.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      actions: { actionGroups: empty(email) ? [] : [mail.id] }
    }
  }
]

// A slot without a consumer keeps WAL. At 95 % the server is read-only, and at a threshold that
// is not documented Azure drops the slot: docs/runbook.md, step 3.
var storageLimits = [
  { percent: 65, severity: 2, title: 'DeltaCompare: production\'s storage fills; work out the hours left' }
  { percent: 80, severity: 0, title: 'DeltaCompare: production\'s storage is nearly full; start the consumer or drop the slot' }
]

resource storage 'Microsoft.Insights/metricAlerts@2018-03-01' = [
  for limit in storageLimits: if (!empty(sourceServerId)) {
    name: '${name}-storage-${limit.percent}-${suffix}'
    location: 'global'
    tags: tags
    properties: {
      description: limit.title
      severity: limit.severity
      enabled: true
      scopes: [sourceServerId]
      evaluationFrequency: 'PT1M'
      windowSize: 'PT5M'
      criteria: {
        'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
        allOf: [
          {
            criterionType: 'StaticThresholdCriterion'
            name: 'storage'
            metricNamespace: 'Microsoft.DBforPostgreSQL/flexibleServers'
            metricName: 'storage_percent'
            timeAggregation: 'Maximum'
            operator: 'GreaterThanOrEqual'
            threshold: limit.percent
          }
        ]
      }
      actions: empty(email) ? [] : [{ actionGroupId: mail.id }]
    }
  }
]
