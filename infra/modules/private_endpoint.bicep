// A resource's private address in a subnet, and its name in a private DNS zone.

import { tagsType } from '../types.bicep'

@description('The name of the endpoint.')
param name string
param location string
param tags tagsType
param subnetId string
param targetId string
@description('Which of the resource\'s services: blob, queue, table, vault, namespace, postgresqlServer.')
param service string
@description('Resource id of the group that has the zone.')
param zonesGroupId string
param zoneName string

var zonesGroupParts = split(zonesGroupId, '/')

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' existing = {
  scope: resourceGroup(zonesGroupParts[2], zonesGroupParts[4])
  name: zoneName
}

resource endpoint 'Microsoft.Network/privateEndpoints@2025-01-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    subnet: { id: subnetId }
    privateLinkServiceConnections: [
      {
        name: service
        properties: {
          privateLinkServiceId: targetId
          groupIds: [service]
        }
      }
    ]
  }
}

resource record 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-01-01' = {
  parent: endpoint
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: service
        properties: { privateDnsZoneId: zone.id }
      }
    ]
  }
}
