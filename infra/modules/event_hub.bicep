// A namespace and a hub, for those who have none. Opened by identities only.

import { tagsType } from '../types.bicep'

@minLength(6)
@maxLength(50)
param name string
param location string
param tags tagsType
param hubName string
param partitions int
param throughputUnits int
param consumerGroupName string
param identityId string
param principalId string
@description('Public addresses or prefixes of operators and consumers, where there is a private endpoint.')
param admittedPrefixes string[]
param workspaceId string
param endpointSubnetId string
param privateZonesGroupId string

@description('Days that events are kept.')
@minValue(1)
@maxValue(7)
param retentionDays int = 7

var private = !empty(endpointSubnetId)
var publicNetworkAccess = private && empty(admittedPrefixes) ? 'Disabled' : 'Enabled'
var admitted = [for prefix in admittedPrefixes: { ipMask: prefix, action: 'Allow' }]

resource namespace 'Microsoft.EventHub/namespaces@2026-01-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: 'Standard', tier: 'Standard', capacity: throughputUnits }
  properties: {
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: publicNetworkAccess
    isAutoInflateEnabled: true
    maximumThroughputUnits: max(throughputUnits, 20)
  }
}

resource rules 'Microsoft.EventHub/namespaces/networkRuleSets@2026-01-01' = {
  parent: namespace
  name: 'default'
  properties: {
    publicNetworkAccess: publicNetworkAccess
    defaultAction: private ? 'Deny' : 'Allow'
    ipRules: private ? admitted : []
  }
}

resource hub 'Microsoft.EventHub/namespaces/eventhubs@2026-01-01' = {
  parent: namespace
  name: hubName
  properties: {
    partitionCount: partitions
    retentionDescription: {
      cleanupPolicy: 'Delete'
      retentionTimeInHours: retentionDays * 24
    }
  }
}

resource consumerGroup 'Microsoft.EventHub/namespaces/eventhubs/consumergroups@2026-01-01' = {
  parent: hub
  name: consumerGroupName
}

module sends 'existing_event_hub.bicep' = {
  params: {
    namespaceName: namespace.name
    hubName: hub.name
    identityId: identityId
    principalId: principalId
  }
}

module endpoint 'private_endpoint.bicep' = if (private) {
  params: {
    name: '${name}-eh-pe'
    location: location
    tags: tags
    subnetId: endpointSubnetId
    targetId: namespace.id
    service: 'namespace'
    zonesGroupId: privateZonesGroupId
    zoneName: 'privatelink.servicebus.windows.net'
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'operations'
  scope: namespace
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'OperationalLogs', enabled: true }
      { category: 'RuntimeAuditLogs', enabled: true }
    ]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output endpointHost string = '${namespace.name}.servicebus.windows.net'
