// A namespace and a hub, for those who have none. Opened by identities only.

@minLength(6)
@maxLength(50)
param name string
param location string
param tags object
param hubName string
param partitions int
param throughputUnits int
param consumerGroupName string
param principalId string
param workspaceId string
param endpointSubnetId string
param privateZonesGroupId string

@description('Days that events are kept.')
@minValue(1)
@maxValue(7)
param retentionDays int = 7

var private = !empty(endpointSubnetId)

resource namespace 'Microsoft.EventHub/namespaces@2024-01-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: 'Standard', tier: 'Standard', capacity: throughputUnits }
  properties: {
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    isAutoInflateEnabled: true
    maximumThroughputUnits: max(throughputUnits, 20)
  }
}

resource hub 'Microsoft.EventHub/namespaces/eventhubs@2024-01-01' = {
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

resource consumerGroup 'Microsoft.EventHub/namespaces/eventhubs/consumergroups@2024-01-01' = {
  parent: hub
  name: consumerGroupName
}

module sends 'existing_event_hub.bicep' = {
  name: 'event-hub-sender'
  params: {
    namespaceName: namespace.name
    hubName: hub.name
    principalId: principalId
  }
}

module endpoint 'private_endpoint.bicep' = if (private) {
  name: 'event-hub-endpoint'
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
